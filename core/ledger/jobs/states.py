"""The one state machine: a job's states, the edges between them, and what is written with each.

Every change of status goes through `move`, which checks the edge and writes row, event and announcement together;
`claims.claim` is the one compare-and-set beside it. A worker's writes carry the attempt that it claimed; once the lease
is lost and the job went back to the queue, they are refused (`LeaseLostError`). All functions run inside the caller's
transaction. Rows are locked with FOR UPDATE on PostgreSQL; on SQLite the transaction itself is the lock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from core.ledger import tallies
from core.ledger.tables import Attempt, Delivery, Event, File, Job, Outbox, clock_ms, new_id

EDGES: Mapping[str, frozenset[str]] = {
    "queued": frozenset({"running", "cancelled"}),
    "running": frozenset({"queued", "succeeded", "failed", "cancelling"}),
    "cancelling": frozenset({"cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset({"queued"}),  # by `retry` alone
    "cancelled": frozenset({"queued"}),
}
RUNNING = ("running", "cancelling")
TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
AHEAD = "ahead"  # the outcome of an attempt that still runs, and has saved more than those before


class IllegalTransitionError(Exception):
    """The state machine has no such edge."""

    def __init__(self, job: Job, to: str) -> None:
        super().__init__(f"job {job.id} is {job.status}; it cannot become {to}")
        self.status = job.status


class LeaseLostError(Exception):
    """The attempt that writes no longer holds the job."""


def locked(session: Session, *where: ColumnElement[bool]) -> Job | None:
    """Lock the job, and read it as it is now."""
    return session.scalar(select(Job).where(*where).with_for_update().execution_options(populate_existing=True))


def held(session: Session, job_id: str, attempt: int) -> Job:
    """Lock the job, if `attempt` still holds it; raises LeaseLostError if not."""
    job = locked(session, Job.id == job_id)
    if job is None or job.attempt != attempt or job.status not in RUNNING:
        raise LeaseLostError(f"attempt {attempt} no longer holds job {job_id}")
    return job


def move(session: Session, job: Job, to: str, **data: Any) -> None:
    """Walk an edge, and write all that hangs on it. Raises IllegalTransitionError where there is none."""
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
        announce(session, job)


def _news(job: Job) -> dict[str, Any]:
    """What a webhook is told of a job that has ended."""
    data = {"id": job.id, "status": job.status, "attempt": job.attempt, "error": job.error}
    data |= {"labels": job.spec["labels"], "href": f"/v1/jobs/{job.id}"}
    ended = datetime.fromtimestamp((job.finished_at or 0) / 1000, UTC)
    return {"type": f"job.{job.status}", "timestamp": ended.isoformat(), "data": data}


def announce(session: Session, job: Job) -> None:
    """Put the job into the outbox: the relay tells the broker."""
    job.announced_at = clock_ms(session)
    session.add(Outbox(job_id=job.id, created_at=job.announced_at))


def finish(session: Session, job: Job, to: str, error: dict[str, Any] | None) -> None:
    """End the attempt that runs, and the job with it."""
    job.error = error
    if error:
        tallies.add(session, "failed", str(error["code"])[:32])
    _close_attempt(session, job, to, str(error["message"]) if error else None)
    move(session, job, to, **({"error": error} if error else {}))


def retry_or_fail(session: Session, job: Job, reason: str) -> None:
    """End the attempt that runs, without a verdict: back to the queue, or failed if it was the last."""
    reason = storable(reason)
    if job.status == "cancelling":
        finish(session, job, "cancelled", None)
    elif job.attempt >= job.max_attempts:
        message = f"gave up after {job.attempt} attempts; the last one ended because: {reason}"
        finish(session, job, "failed", {"code": "attempts_exhausted", "message": message})
    else:
        _close_attempt(session, job, "lost", reason)
        job.worker, job.stage, job.progress = None, None, {}
        move(session, job, "queued", reason=reason)


def end_stage(session: Session, job: Job) -> None:
    """Count how long the stage that runs has taken."""
    if job.stage is not None and job.stage_at is not None:
        tallies.add(session, "stage", job.stage, clock_ms(session) - job.stage_at)
    job.stage_at = None


def _close_attempt(session: Session, job: Job, outcome: str, reason: str | None) -> None:
    end_stage(session, job)
    attempt = session.get(Attempt, (job.id, job.attempt))
    if attempt is not None and attempt.finished_at is None:
        attempt.finished_at, attempt.outcome, attempt.reason = clock_ms(session), outcome, reason


def record(session: Session, job: Job, kind: str, data: Mapping[str, Any]) -> None:
    """Add an event. The caller holds the job row, so a job's events become visible in the order of `seq`."""
    session.add(Event(job_id=job.id, type=kind, data=dict(data)))
    session.flush()


def storable(value: Any) -> Any:
    """What both databases can keep: no NUL and no half surrogate pair in text, no NaN or infinity."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {storable(str(key)): storable(item) for key, item in value.items()}
    return [storable(item) for item in value] if isinstance(value, list | tuple) else value
