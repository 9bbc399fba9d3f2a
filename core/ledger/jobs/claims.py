"""Which queued job a worker takes; of any number of workers one alone gets it. Inside the caller's transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from pydantic import ValidationError
from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.orm import Session

from core.ledger import quotas
from core.ledger.jobs.owner import lock_tenant
from core.ledger.jobs.states import RUNNING, record
from core.ledger.tables import Attempt, Job, Key, Tenant, clock_ms
from core.ledger.workers import Offer
from core.spec.job import JobSpec

MAX_UNREAD = 100  # queued jobs of a newer version that a worker steps over: of a tenant with more, it takes none


def claim_next(
    session: Session,
    worker: str,
    lease_s: float,
    max_running: int | None = None,
    offer: Offer | None = None,
    after: Collection[str] = (),
    without: Collection[str] = (),
    max_stored_bytes: int | None = None,
) -> Job | None:
    """Take the queued job of the tenant that was served the longest ago; None if there is none.

    Of a tenant's own that of the highest priority, of those the oldest. Those of `after` come last: they broke off at
    this worker, and others may not. Those of `without` are not taken. Passed over are jobs that were put off, tenants
    that have `max_running` jobs running, keys that have as many as they may, jobs that need more than `offer`, and
    those whose specification this version cannot read: they are left to a newer worker. So are jobs that have not begun
    of tenants that keep `max_stored_bytes`, and of keys that keep as much as they may.
    """
    due = or_(Job.lease_until.is_(None), Job.lease_until <= clock_ms(session))
    offered = offer.takes() if offer else ()
    best = (
        select(Job.id, Job.tenant_id, Job.key_id, Job.attempt, Job.spec)
        .join(Tenant)
        .where(Job.status == "queued", due, *offered)
    )
    last = [Job.id.in_(after)] if after else []
    best = best.order_by(*last, Tenant.served_at.nulls_first(), Job.priority.desc(), Job.id).limit(1)
    best = best.where(Job.id.not_in(without))
    unread, of_tenant = set[str](), Counter[str]()
    if max_running is not None:
        running = select(Job.tenant_id).where(Job.status.in_(RUNNING)).group_by(Job.tenant_id)
        best = best.where(Job.tenant_id.not_in(running.having(func.count() >= max_running)))
    if session.scalar(select(exists().where(Key.max_running.is_not(None)))):
        of_keys = select(Key.id).join(Job, Job.key_id == Key.id).where(Job.status.in_(RUNNING))
        full = of_keys.group_by(Key.id, Key.max_running).having(func.count() >= Key.max_running)
        best = best.where(or_(Job.key_id.is_(None), Job.key_id.not_in(full)))
    while (found := session.execute(best.where(Job.id.not_in(unread))).first()) is not None:
        job_id, tenant_id, key_id, attempt, spec = found
        try:
            JobSpec.model_validate(spec)
        except ValidationError:
            unread.add(job_id)
            of_tenant[tenant_id] += 1
            if of_tenant[tenant_id] == MAX_UNREAD:
                best = best.where(Job.tenant_id != tenant_id)
            continue
        if attempt == 0 and quotas.all_stored(session, tenant_id, key_id, max_stored_bytes):
            best = best.where(or_(Job.attempt > 0, Job.tenant_id != tenant_id, Job.key_id.is_distinct_from(key_id)))
            continue
        with session.begin_nested() as trial:
            # Or two workers at once would each see room for one. Before the job is locked: `retry` keeps that order.
            lock_tenant(session, tenant_id)
            free = session.execute(best.where(Job.id == job_id)).first() is not None
            if free and (job := claim(session, job_id, worker, lease_s)) is not None:
                return job
            trial.rollback()  # and the lock goes: two workers that hold a tenant's each could wait for the other's
    return None


def claim(session: Session, job_id: str, worker: str, lease_s: float) -> Job | None:
    """Take a queued job: compare-and-set, so that of any number of workers one gets it. None if it is not free."""
    now = clock_ms(session)
    result = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.status == "queued")
        .values(
            status="running",
            attempt=Job.attempt + 1,
            worker=worker,
            lease_until=now + int(lease_s * 1000),
            version=Job.version + 1,
        )
    )
    if result.rowcount == 0:  # type: ignore[attr-defined]
        return None
    job = session.get_one(Job, job_id, populate_existing=True)
    job.started_at = job.started_at or now
    session.execute(update(Tenant).where(Tenant.id == job.tenant_id).values(served_at=now))
    session.add(Attempt(job_id=job_id, number=job.attempt, worker=worker, started_at=now))
    record(session, job, "status", {"status": "running", "attempt": job.attempt})
    return job
