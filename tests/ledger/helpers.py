"""Small makers for the ledger's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from core.ledger.database import Database
from core.ledger.jobs import attempts, claims, owner, queries, upkeep
from core.ledger.tables import DEFAULT_TENANT, Job
from core.spec.job import JobSpec

DATASET = f"ds_{'0' * 32}"


def make_spec(**changes: Any) -> JobSpec:
    """A small valid job specification."""
    body = {"model": "tiny", "task": {"data": {"dataset": DATASET}}, "budget": {"params": 0.1}}
    return JobSpec.model_validate(body | changes)


def new_job(database: Database, max_attempts: int = 3, **changes: Any) -> str:
    """Create a job; returns its id."""
    with database.begin() as session:
        return owner.create(session, DEFAULT_TENANT, make_spec(**changes), max_attempts)[0].id


def claimed_job(database: Database, max_attempts: int = 3, lease_s: float = 60) -> str:
    """Create a job and claim it, as attempt 1."""
    job_id = new_job(database, max_attempts)
    with database.begin() as session:
        assert claims.claim(session, job_id, "worker", lease_s) is not None
    return job_id


def get(database: Database, job_id: str) -> Job:
    """The job as it is now."""
    with database.read() as session:
        job = queries.find(session, DEFAULT_TENANT, job_id)
        assert job is not None
        return job


def statuses(database: Database, job_id: str) -> list[str]:
    """Every status that the job's events tell of, in order."""
    with database.read() as session:
        return [e.data["status"] for e in queries.events(session, job_id, 0, 1000) if e.type == "status"]


ERROR = {"code": "invalid", "field": "/budget/params", "message": "out of reach"}
FILES = {"model.safetensors": ("a" * 64, 10)}

WORKER_WRITES: dict[str, Callable[[Session, str, int], Any]] = {
    "beat": lambda s, job, attempt: attempts.beat(s, job, attempt, 60),
    "report": lambda s, job, attempt: attempts.report(s, job, attempt, {"event": "stage", "stage": "teach"}),
    "save_state": lambda s, job, attempt: attempts.save_state(s, job, attempt, FILES),
    "succeed": lambda s, job, attempt: attempts.succeed(s, job, attempt, {}, FILES),
    "fail": lambda s, job, attempt: attempts.fail(s, job, attempt, ERROR),
    "stopped": lambda s, job, attempt: attempts.stopped(s, job, attempt),
    "give_back": lambda s, job, attempt: attempts.give_back(s, job, attempt, "crashed"),
    "release": lambda s, job, attempt: attempts.release(s, job, attempt, "restart"),
    "put_off": lambda s, job, attempt: attempts.put_off(s, job, attempt, "the hub answers 503", 600),
}


def do(database: Database, name: str, job_id: str, attempt: int = 1) -> None:
    with database.begin() as session:
        WORKER_WRITES[name](session, job_id, attempt)


def cancel(database: Database, job_id: str) -> None:
    with database.begin() as session:
        assert owner.cancel(session, DEFAULT_TENANT, job_id) is not None


def expire(database: Database, job_id: str) -> None:
    with database.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=1))


def reap(database: Database) -> list[str]:
    with database.begin() as session:
        return upkeep.reap(session)


def outbox(database: Database) -> list[str]:
    with database.read() as session:
        return [row.job_id for row in upkeep.outbox(session)]


def publish(database: Database) -> None:
    with database.begin() as session:
        upkeep.published(session, [row.id for row in upkeep.outbox(session)])
