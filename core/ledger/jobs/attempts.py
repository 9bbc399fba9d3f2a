"""What a worker says of the attempt that it holds: it lives, it has come so far, it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.ledger import latencies, tallies
from core.ledger.jobs import queries
from core.ledger.jobs.states import AHEAD, end_stage, finish, held, record, retry_or_fail, storable
from core.ledger.tables import Attempt, Event, File, Job, clock_ms

MAX_STARTS = 1000  # of a job: beyond, none is forgiven
AGAIN_S = 5.0  # after which a job that was put off may be taken the first time


def beat(session: Session, job_id: str, attempt: int, lease_s: float) -> str:
    """Extend the lease; returns the status ('running' or 'cancelling'). Raises LeaseLostError."""
    job = held(session, job_id, attempt)
    job.lease_until = clock_ms(session) + int(lease_s * 1000)
    return job.status


def report(session: Session, job_id: str, attempt: int, message: Mapping[str, Any]) -> None:
    """Record what the child says: a `stage` begun, `progress` within it, or another event. Raises LeaseLostError.

    The row always shows the latest progress; an event is kept for each percent only, or a long job would flood them.
    """
    job = held(session, job_id, attempt)
    data = {key: storable(value) for key, value in message.items() if key != "event"}
    kind, before = message["event"], job.progress
    if kind == "latency":
        latencies.keep(session, data["model"], data["latency"])
    if kind == "stage":
        end_stage(session, job)
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
    job = held(session, job_id, attempt)
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
    job = held(session, job_id, attempt)
    job.metrics = storable(metrics)
    job.progress = {**job.progress, "overall": 1.0}
    _replace_files(session, job, "output", outputs)
    finish(session, job, "succeeded", None)


def fail(session: Session, job_id: str, attempt: int, error: dict[str, Any]) -> None:
    """End the job for good, with a reason that its owner can read. Raises LeaseLostError."""
    job = held(session, job_id, attempt)
    if job.status == "cancelling":
        finish(session, job, "cancelled", None)
    else:
        finish(session, job, "failed", storable(error))


def stopped(session: Session, job_id: str, attempt: int) -> None:
    """End a job that was being cancelled. Raises LeaseLostError, IllegalTransitionError."""
    finish(session, held(session, job_id, attempt), "cancelled", None)


def give_back(session: Session, job_id: str, attempt: int, reason: str, *, counts: bool = True) -> None:
    """The attempt ended without a verdict on the job (its process died): try again, up to the cap.

    One that does not count was ended by a fault of its worker alone. Raises LeaseLostError.
    """
    tallies.add(session, "attempt_ended", "broke_off")
    job = held(session, job_id, attempt)
    job.max_attempts += not counts
    retry_or_fail(session, job, reason)


def release(session: Session, job_id: str, attempt: int, reason: str) -> None:
    """The worker is being stopped in good order: like `give_back`, but it does not count against the cap.

    Raises LeaseLostError.
    """
    job = held(session, job_id, attempt)
    tallies.add(session, "attempt_ended", "drained")
    job.max_attempts += 1
    retry_or_fail(session, job, reason)


def put_off(session: Session, job_id: str, attempt: int, reason: str, limit_s: float) -> bool:
    """What the job needs is away, and may come back: like `release`, and nobody takes the job for a while.

    `waiting` says why. The first time that is seconds, later half of what it has waited, a minute at most; False once
    it has waited for `limit_s`, and is to be failed. Raises LeaseLostError.
    """
    job = held(session, job_id, attempt)
    now = clock_ms(session)
    since = min(job.progress.get("away_since", now), now)  # the clock may have gone back
    if now - since >= limit_s * 1000:
        return False
    release(session, job_id, attempt, reason)
    if job.status == "queued":
        job.progress = {"away_since": since, "waiting": storable(reason)}
        job.lease_until = now + int(min(60_000, max(AGAIN_S * 1000, (now - since) / 2)))
    return True


def _is_ahead(session: Session, job: Job) -> bool:
    """Whether the attempt that runs has come further than any before it, as far as they said."""
    query = select(Event.seq).where(Event.job_id == job.id, Event.type == "status").order_by(Event.seq.desc()).limit(1)
    earlier = queries.events(session, job.id, 0, None, kind="progress")
    began, reached = session.scalar(query) or 0, job.progress.get("overall")
    furthest = [event.data["overall"] for event in earlier if event.seq < began and "overall" in event.data]
    return not furthest or (reached is not None and reached > max(furthest))


def _replace_files(session: Session, job: Job, kind: str, new: Mapping[str, tuple[str, int]]) -> None:
    session.execute(delete(File).where(File.job_id == job.id, File.kind == kind))
    session.add_all(
        File(job_id=job.id, kind=kind, path=path, sha256=sha256, size_bytes=size)
        for path, (sha256, size) in new.items()
    )
    session.flush()


def _percent(progress: Mapping[str, Any]) -> int | None:
    overall = progress.get("overall")
    return int(100 * overall) if isinstance(overall, int | float) else None
