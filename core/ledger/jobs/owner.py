"""What a job's owner asks: to run it, to cancel it, to try it again, to forget it."""

from __future__ import annotations

import hashlib
import json

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.ledger import webhooks
from core.ledger.jobs.states import TERMINAL, IllegalTransitionError, locked, move, record
from core.ledger.tables import Delivery, Job, Outbox, Tenant, clock_ms, new_id
from core.spec.job import JobSpec


class IdempotencyConflictError(Exception):
    """The Idempotency-Key was used with another request."""


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
    job = locked(session, Job.tenant_id == tenant_id, Job.id == job_id)
    if job is None or job.status in ("cancelling", "cancelled"):
        return job
    move(session, job, "cancelling" if job.status == "running" else "cancelled")
    return job


def retry(session: Session, tenant_id: str, job_id: str, attempts: int, key_id: str | None = None) -> Job | None:
    """Queue a failed or cancelled job again, with so many more attempts; it goes on from the state it saved, if kept.

    Returns None if the tenant has no such job; raises IllegalTransitionError if it has not failed or been cancelled.
    """
    job = locked(session, Job.tenant_id == tenant_id, Job.id == job_id)
    if job is None:
        return None
    if job.status not in ("failed", "cancelled"):
        raise IllegalTransitionError(job, "queued")
    job.max_attempts, job.key_id = job.attempt + attempts, key_id
    job.stage = job.worker = job.error = job.finished_at = None
    job.progress = {}
    session.execute(update(Delivery).where(Delivery.job_id == job.id).values(due_at=None))  # of an end that was none
    move(session, job, "queued")
    return job


def remove(session: Session, tenant_id: str, job_id: str) -> bool:
    """Forget an ended job with all that hangs on it; its files are swept later. False if the tenant has no such job.

    Raises IllegalTransitionError if it has not ended.
    """
    job = locked(session, Job.tenant_id == tenant_id, Job.id == job_id)
    if job is None:
        return False
    if job.status not in TERMINAL:
        raise IllegalTransitionError(job, "deleted")
    session.execute(delete(Job).where(Job.id == job_id))
    return True


def _digest(spec: JobSpec) -> str:
    # Without defaults: a field that a later version adds leaves the digests of earlier requests as they are.
    body = spec.model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
