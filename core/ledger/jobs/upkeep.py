"""What the reaper and the relay do: leases that ran out, announcements that are due, states that nobody wants."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session

from core.ledger import tallies
from core.ledger.jobs.states import AHEAD, RUNNING, TERMINAL, announce, retry_or_fail
from core.ledger.tables import Attempt, File, Job, Outbox, clock_ms


def reap(session: Session, limit: int = 100) -> list[str]:
    """Return jobs whose lease has expired to the queue, or fail them at the cap. Returns their ids."""
    query = (
        select(Job)
        .where(Job.status.in_(RUNNING), Job.lease_until < clock_ms(session))
        .order_by(Job.lease_until)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    expired = session.scalars(query).all()
    for job in expired:
        tallies.add(session, "lease_lost")
        job.max_attempts += session.get_one(Attempt, (job.id, job.attempt)).outcome == AHEAD
        retry_or_fail(session, job, f"worker {job.worker} was silent for longer than its lease")
    return [job.id for job in expired]


def running_for_s(session: Session) -> float:
    """Seconds since the oldest attempt began that is still running; 0 if none is."""
    query = select(func.min(Attempt.started_at)).join(Job, Job.id == Attempt.job_id)
    oldest = session.scalar(query.where(Job.status.in_(RUNNING), Attempt.number == Job.attempt))
    return 0.0 if oldest is None else (clock_ms(session) - oldest) / 1000


def renew(session: Session, lease_s: float) -> None:
    """Every lease begins anew: the clock has jumped, and none of them says how long a worker was silent.

    Jobs that were put off are due at once, or some would be for as long as the clock went back.
    """
    leased, now = Job.status.in_(RUNNING), clock_ms(session)
    session.execute(update(Job).where(leased).values(lease_until=now + int(lease_s * 1000)))
    put_off = Job.status == "queued", Job.lease_until.is_not(None)
    session.execute(update(Job).where(*put_off).values(lease_until=now))


def remind(session: Session, older_than_s: float, limit: int = 100) -> list[str]:
    """Announce queued jobs again that nobody has taken since they were last announced, longer ago than that.

    This is what makes a wiped broker harmless. Returns their ids.
    """
    since = clock_ms(session) - int(older_than_s * 1000)
    waiting = exists().where(Outbox.job_id == Job.id)
    query = select(Job).where(Job.status == "queued", Job.announced_at <= since, ~waiting).order_by(Job.announced_at)
    stale = session.scalars(query.limit(limit).with_for_update(skip_locked=True)).all()
    for job in stale:
        announce(session, job)
    return [job.id for job in stale]


def forget_states(session: Session, older_than_s: float) -> None:
    """Forget what jobs that failed or were cancelled longer ago than that could be resumed from."""
    since = clock_ms(session) - int(older_than_s * 1000)
    ended = select(Job.id).where(Job.status.in_(TERMINAL), Job.finished_at < since)
    session.execute(delete(File).where(File.kind == "state", File.job_id.in_(ended)))


def outbox(session: Session, limit: int = 100) -> Sequence[Outbox]:
    """Announcements to publish, oldest first; tell `published` once the broker has them.

    Not locked: publish after the transaction, or a slow broker would hold up the database. Two relays that publish
    the same announcement do no harm.
    """
    return session.scalars(select(Outbox).order_by(Outbox.id).limit(limit)).all()


def published(session: Session, ids: Sequence[int]) -> None:
    """Forget announcements that the broker has."""
    session.execute(delete(Outbox).where(Outbox.id.in_(ids)))
