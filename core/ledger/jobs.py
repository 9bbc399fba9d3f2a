"""A job's life: the one state machine, leases with fencing, events and the outbox.

Every change of status goes through `_move`, which checks the edge and writes row, event and announcement together;
`claims.claim` is the one compare-and-set beside it. A worker's writes carry the attempt that it claimed; once the lease
is lost and the job went back to the queue, they are refused (`LeaseLostError`). All functions run inside the caller's
transaction. Rows are locked with FOR UPDATE on PostgreSQL; on SQLite the transaction itself is the lock.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.ledger import latencies, queries, tallies, webhooks
from core.ledger.tables import Attempt, Delivery, Event, File, Job, Outbox, Tenant, clock_ms, new_id
from core.spec.job import JobSpec

EDGES: Mapping[str, frozenset[str]] = {
    "queued": frozenset({"running", "cancelled"}),
    "running": frozenset({"queued", "succeeded", "failed", "cancelling"}),
    "cancelling": frozenset({"cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset({"queued"}),  # by `retry` alone
    "cancelled": frozenset({"queued"}),
}
RUNNING = ("running", "cancelling")
MAX_STARTS = 1000  # of a job: beyond, none is forgiven
AHEAD = "ahead"  # the outcome of an attempt that still runs, and has saved more than those before
AGAIN_S = 5.0  # after which a job that was put off may be taken the first time
TERMINAL = frozenset({"succeeded", "failed", "cancelled"})


class IllegalTransitionError(Exception):
    """The state machine has no such edge."""

    def __init__(self, job: Job, to: str) -> None:
        super().__init__(f"job {job.id} is {job.status}; it cannot become {to}")
        self.status = job.status


class LeaseLostError(Exception):
    """The attempt that writes no longer holds the job."""


class IdempotencyConflictError(Exception):
    """The Idempotency-Key was used with another request."""


# --- asked from outside -------------------------------------------------------------------------------------


def create(
    session: Session,
    tenant_id: str,
    spec: JobSpec,
    max_attempts: int,
    idempotency_key: str | None = None,
    key_id: str | None = None,
    asked: JobSpec | None = None,
) -> tuple[Job, bool]:
    """A new queued job with its event and outbox row; returns (job, whether it is new).

    The same key with the same body returns the first job, also for requests at the very same time; `asked` is that
    body, if what it names of a hub was filled in since. Raises IdempotencyConflictError for another body.
    """
    asked = asked or spec
    if idempotency_key is not None and (job := earlier(session, tenant_id, asked, idempotency_key)) is not None:
        return job, False
    job = Job(
        id=new_id("job"),
        tenant_id=tenant_id,
        spec=spec.model_dump(mode="json"),
        priority=spec.priority,
        status="queued",
        progress={},
        max_attempts=max_attempts,
        webhook_secret=webhooks.new_secret() if spec.webhook else None,
        idempotency_key=idempotency_key,
        request_sha256=_digest(asked),
        key_id=key_id,
        announced_at=clock_ms(session),
    )
    try:
        with session.begin_nested():
            session.add(job)
    except IntegrityError:
        # The unique key: a twin of this request was faster, and is committed by now.
        if idempotency_key is None or (twin := earlier(session, tenant_id, asked, idempotency_key)) is None:
            raise
        return twin, False
    record(session, job, "status", {"status": "queued"})
    session.add(Outbox(job_id=job.id, created_at=job.announced_at))
    session.flush()
    return job, True


def earlier(session: Session, tenant_id: str, spec: JobSpec, idempotency_key: str) -> Job | None:
    """The job that this key made, or None. Raises IdempotencyConflictError if it was made for another body."""
    job = session.scalar(select(Job).where(Job.tenant_id == tenant_id, Job.idempotency_key == idempotency_key))
    if job is not None and job.request_sha256 != _digest(spec):
        raise IdempotencyConflictError(idempotency_key)
    return job


def lock_tenant(session: Session, tenant_id: str) -> None:
    """Let no other transaction count and add to what the tenant has, until this one ends."""
    session.execute(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update(key_share=True))


def cancel(session: Session, tenant_id: str, job_id: str) -> Job | None:
    """Ask for an end: a queued job is cancelled at once, a running one when its worker sees it. Idempotent.

    Returns None if the tenant has no such job; raises IllegalTransitionError if it has succeeded or failed.
    """
    job = _locked(session, Job.tenant_id == tenant_id, Job.id == job_id)
    if job is None or job.status in ("cancelling", "cancelled"):
        return job
    _move(session, job, "cancelling" if job.status == "running" else "cancelled")
    return job


def retry(session: Session, tenant_id: str, job_id: str, attempts: int, key_id: str | None = None) -> Job | None:
    """Queue a failed or cancelled job again, with so many more attempts; it goes on from the state it saved, if kept.

    Returns None if the tenant has no such job; raises IllegalTransitionError if it has not failed or been cancelled.
    """
    job = _locked(session, Job.tenant_id == tenant_id, Job.id == job_id)
    if job is None:
        return None
    if job.status not in ("failed", "cancelled"):
        raise IllegalTransitionError(job, "queued")
    job.max_attempts, job.key_id = job.attempt + attempts, key_id
    job.stage = job.worker = job.error = job.finished_at = None
    job.progress = {}
    session.execute(update(Delivery).where(Delivery.job_id == job.id).values(due_at=None))  # of an end that was none
    _move(session, job, "queued")
    return job


def remove(session: Session, tenant_id: str, job_id: str) -> bool:
    """Forget an ended job with all that hangs on it; its files are swept later. False if the tenant has no such job.

    Raises IllegalTransitionError if it has not ended.
    """
    job = _locked(session, Job.tenant_id == tenant_id, Job.id == job_id)
    if job is None:
        return False
    if job.status not in TERMINAL:
        raise IllegalTransitionError(job, "deleted")
    session.execute(delete(Job).where(Job.id == job_id))
    return True


# --- said by a worker ---------------------------------------------------------------------------------------


def beat(session: Session, job_id: str, attempt: int, lease_s: float) -> str:
    """Extend the lease; returns the status ('running' or 'cancelling'). Raises LeaseLostError."""
    job = _held(session, job_id, attempt)
    job.lease_until = clock_ms(session) + int(lease_s * 1000)
    return job.status


def report(session: Session, job_id: str, attempt: int, message: Mapping[str, Any]) -> None:
    """Record what the child says: a `stage` begun, `progress` within it, or another event. Raises LeaseLostError.

    The row always shows the latest progress; an event is kept for each percent only, or a long job would flood them.
    """
    job = _held(session, job_id, attempt)
    data = {key: _storable(value) for key, value in message.items() if key != "event"}
    kind, before = message["event"], job.progress
    if kind == "latency":
        latencies.keep(session, data["model"], data["latency"])
    if kind == "stage":
        _end_stage(session, job)
        job.stage, job.stage_at = data["stage"], clock_ms(session)
        job.progress = {key: before[key] for key in ("overall",) if key in before}
    elif kind == "progress":
        job.progress = data
    job.version += 1
    if kind != "progress" or _percent(data) != _percent(before):
        record(session, job, kind, data)


def save_state(session: Session, job_id: str, attempt: int, saved: Mapping[str, tuple[str, int]]) -> None:
    """Replace the resumable state: path -> (sha256, size). Raises LeaseLostError.

    An attempt that saves more than those before it is marked: should its worker fall silent, that does not count
    against the cap. Hosts are lost, and a long job must not be; one that takes its worker down comes no further.
    """
    job = _held(session, job_id, attempt)
    before = {file.path: (file.sha256, file.size_bytes) for file in queries.files(session, job_id, "state")}
    running = session.get_one(Attempt, (job_id, attempt))
    if running.outcome is None and 1 < attempt < MAX_STARTS and before != dict(saved) and _is_ahead(session, job):
        running.outcome = AHEAD
        if job.progress:
            record(session, job, "progress", job.progress)
    _replace_files(session, job, "state", saved)


def succeed(
    session: Session,
    job_id: str,
    attempt: int,
    metrics: dict[str, Any],
    outputs: Mapping[str, tuple[str, int]],
) -> None:
    """Publish the files and end the job, in one fenced step. Raises LeaseLostError, IllegalTransitionError."""
    job = _held(session, job_id, attempt)
    job.metrics = _storable(metrics)
    job.progress = {**job.progress, "overall": 1.0}
    _replace_files(session, job, "output", outputs)
    _finish(session, job, "succeeded", None)


def fail(session: Session, job_id: str, attempt: int, error: dict[str, Any]) -> None:
    """End the job for good, with a reason that its owner can read. Raises LeaseLostError."""
    job = _held(session, job_id, attempt)
    if job.status == "cancelling":
        _finish(session, job, "cancelled", None)
    else:
        _finish(session, job, "failed", _storable(error))


def stopped(session: Session, job_id: str, attempt: int) -> None:
    """The worker has ended a job that was being cancelled. Raises LeaseLostError."""
    _finish(session, _held(session, job_id, attempt), "cancelled", None)


def give_back(session: Session, job_id: str, attempt: int, reason: str, *, counts: bool = True) -> None:
    """The attempt ended without a verdict on the job (its process died): try again, up to the cap.

    One that does not count was ended by a fault of its worker alone.
    """
    tallies.add(session, "attempt_ended", "broke_off")
    job = _held(session, job_id, attempt)
    job.max_attempts += not counts
    _retry_or_fail(session, job, reason)


def release(session: Session, job_id: str, attempt: int, reason: str) -> None:
    """The worker is being stopped in good order: like `give_back`, but it does not count against the cap."""
    job = _held(session, job_id, attempt)
    tallies.add(session, "attempt_ended", "drained")
    job.max_attempts += 1
    _retry_or_fail(session, job, reason)


def put_off(session: Session, job_id: str, attempt: int, reason: str, limit_s: float) -> bool:
    """What the job needs is away, and may come back: like `release`, and nobody takes the job for a while.

    `waiting` says why. The first time that is seconds, later half of what it has waited, a minute at most; False once
    it has waited for `limit_s`, and is to be failed. Raises LeaseLostError.
    """
    job = _held(session, job_id, attempt)
    now = clock_ms(session)
    since = job.progress.get("away_since", now)
    if now - since >= limit_s * 1000:
        return False
    release(session, job_id, attempt, reason)
    if job.status == "queued":
        job.progress = {"away_since": since, "waiting": _storable(reason)}
        job.lease_until = now + int(min(60_000, max(AGAIN_S * 1000, (now - since) / 2)))
    return True


# --- said by the reaper and the relay -----------------------------------------------------------------------


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
        _retry_or_fail(session, job, f"worker {job.worker} was silent for longer than its lease")
    return [job.id for job in expired]


def running_for_s(session: Session) -> float:
    """Seconds since the oldest attempt began that is still running; 0 if none is."""
    query = select(func.min(Attempt.started_at)).join(Job, Job.id == Attempt.job_id)
    oldest = session.scalar(query.where(Job.status.in_(RUNNING), Attempt.number == Job.attempt))
    return 0.0 if oldest is None else (clock_ms(session) - oldest) / 1000


def renew(session: Session, lease_s: float) -> None:
    """Every lease begins anew: the clock has jumped, and none of them says how long a worker was silent."""
    leased = Job.status.in_(RUNNING)
    session.execute(update(Job).where(leased).values(lease_until=clock_ms(session) + int(lease_s * 1000)))


def remind(session: Session, older_than_s: float, limit: int = 100) -> list[str]:
    """Announce queued jobs again that nobody has taken since they were last announced, longer ago than that.

    This is what makes a wiped broker harmless. Returns their ids.
    """
    since = clock_ms(session) - int(older_than_s * 1000)
    waiting = exists().where(Outbox.job_id == Job.id)
    query = select(Job).where(Job.status == "queued", Job.announced_at <= since, ~waiting).order_by(Job.announced_at)
    stale = session.scalars(query.limit(limit).with_for_update(skip_locked=True)).all()
    for job in stale:
        _announce(session, job)
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


# --- inside -------------------------------------------------------------------------------------------------


def _digest(spec: JobSpec) -> str:
    # Without defaults: a field that a later version adds leaves the digests of earlier requests as they are.
    body = spec.model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _locked(session: Session, *where: ColumnElement[bool]) -> Job | None:
    """The job, locked and as it is now."""
    return session.scalar(select(Job).where(*where).with_for_update().execution_options(populate_existing=True))


def _held(session: Session, job_id: str, attempt: int) -> Job:
    """The job, locked, if `attempt` still holds it."""
    job = _locked(session, Job.id == job_id)
    if job is None or job.attempt != attempt or job.status not in RUNNING:
        raise LeaseLostError(f"attempt {attempt} no longer holds job {job_id}")
    return job


def _move(session: Session, job: Job, to: str, **data: Any) -> None:
    if to not in EDGES[job.status]:
        raise IllegalTransitionError(job, to)
    job.status = to
    job.version += 1
    if to not in RUNNING:
        job.lease_until = None
    if to in TERMINAL:
        job.finished_at = clock_ms(session)
        tallies.add(session, "finished", to)
        if job.webhook_secret is not None:
            session.add(Delivery(id=new_id("msg"), job_id=job.id, body=_news(job), due_at=job.finished_at))
    if to == "succeeded":
        session.execute(delete(File).where(File.job_id == job.id, File.kind == "state"))
    record(session, job, "status", {"status": to, **data})
    if to == "queued":
        _announce(session, job)


def _news(job: Job) -> dict[str, Any]:
    """What a webhook is told of a job that has ended."""
    data = {"id": job.id, "status": job.status, "attempt": job.attempt, "error": job.error}
    data |= {"labels": job.spec["labels"], "href": f"/v1/jobs/{job.id}"}
    ended = datetime.fromtimestamp((job.finished_at or 0) / 1000, UTC)
    return {"type": f"job.{job.status}", "timestamp": ended.isoformat(), "data": data}


def _announce(session: Session, job: Job) -> None:
    job.announced_at = clock_ms(session)
    session.add(Outbox(job_id=job.id, created_at=job.announced_at))


def _finish(session: Session, job: Job, to: str, error: dict[str, Any] | None) -> None:
    job.error = error
    if error:
        tallies.add(session, "failed", str(error["code"])[:32])
    _close_attempt(session, job, to, str(error["message"]) if error else None)
    _move(session, job, to, **({"error": error} if error else {}))


def _retry_or_fail(session: Session, job: Job, reason: str) -> None:
    reason = _storable(reason)
    if job.status == "cancelling":
        _finish(session, job, "cancelled", None)
    elif job.attempt >= job.max_attempts:
        message = f"gave up after {job.attempt} attempts; the last one ended because: {reason}"
        _finish(session, job, "failed", {"code": "attempts_exhausted", "message": message})
    else:
        _close_attempt(session, job, "lost", reason)
        job.worker, job.stage, job.progress = None, None, {}
        _move(session, job, "queued", reason=reason)


def _is_ahead(session: Session, job: Job) -> bool:
    """Whether the attempt that runs has come further than any before it, as far as they said."""
    query = select(Event.seq).where(Event.job_id == job.id, Event.type == "status").order_by(Event.seq.desc()).limit(1)
    earlier = queries.events(session, job.id, 0, None, kind="progress")
    began, reached = session.scalar(query) or 0, job.progress.get("overall")
    furthest = [event.data["overall"] for event in earlier if event.seq < began and "overall" in event.data]
    return not furthest or (reached is not None and reached > max(furthest))


def _end_stage(session: Session, job: Job) -> None:
    if job.stage is not None and job.stage_at is not None:
        tallies.add(session, "stage", job.stage, clock_ms(session) - job.stage_at)
    job.stage_at = None


def _close_attempt(session: Session, job: Job, outcome: str, reason: str | None) -> None:
    _end_stage(session, job)
    attempt = session.get(Attempt, (job.id, job.attempt))
    if attempt is not None and attempt.finished_at is None:
        attempt.finished_at, attempt.outcome, attempt.reason = clock_ms(session), outcome, reason


def _replace_files(session: Session, job: Job, kind: str, new: Mapping[str, tuple[str, int]]) -> None:
    session.execute(delete(File).where(File.job_id == job.id, File.kind == kind))
    session.add_all(
        File(job_id=job.id, kind=kind, path=path, sha256=sha256, size_bytes=size)
        for path, (sha256, size) in new.items()
    )
    session.flush()


def record(session: Session, job: Job, kind: str, data: Mapping[str, Any]) -> None:
    """Add an event. The caller holds the job row, so a job's events become visible in the order of `seq`."""
    session.add(Event(job_id=job.id, type=kind, data=dict(data)))
    session.flush()


def _percent(progress: Mapping[str, Any]) -> int | None:
    overall = progress.get("overall")
    return int(100 * overall) if isinstance(overall, int | float) else None


def _storable(value: Any) -> Any:
    """What both databases can keep: no NUL and no half surrogate pair in text, no NaN or infinity."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_storable(str(key)): _storable(item) for key, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list | tuple) else value
