"""Small makers for the ledger's tests."""

from __future__ import annotations

from typing import Any

from core.ledger import claims, jobs, queries
from core.ledger.database import Database
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
        return jobs.create(session, DEFAULT_TENANT, make_spec(**changes), max_attempts)[0].id


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
