"""What one tenant may have: jobs that wait, bytes that are kept. (How many run at once, `jobs.claim_next` heeds.)"""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.ledger import jobs, uploads
from core.ledger.settings import Settings
from core.ledger.tables import Dataset, File, Job


class QueueFullError(Exception):
    """The tenant has as many jobs waiting as it may."""


class StorageFullError(Exception):
    """The tenant keeps as many bytes as it may."""


def check_queue(session: Session, tenant_id: str, settings: Settings) -> None:
    """Raises QueueFullError or StorageFullError if there is no room for one more job.

    The tenant is held until the transaction ends, so that requests at once cannot each find the same room.
    """
    jobs.lock_tenant(session, tenant_id)
    if (waiting := jobs.count(session, tenant_id, "queued")) >= settings.max_queued:
        raise QueueFullError(f"{waiting:,} jobs are queued already; wait until some have run, or cancel some")
    check_storage(session, tenant_id, settings, 1)


def check_storage(session: Session, tenant_id: str, settings: Settings, more_bytes: int) -> None:
    """Raises StorageFullError if so much more would be too much; holds the tenant like `check_queue`."""
    if settings.max_stored_bytes is None:
        return
    jobs.lock_tenant(session, tenant_id)
    stored = stored_bytes(session, tenant_id)
    if stored + more_bytes > settings.max_stored_bytes:
        raise StorageFullError(
            f"{stored:,} of {settings.max_stored_bytes:,} bytes are used; delete jobs or data sets that are not needed "
            "any more (DELETE /v1/jobs/{id}, DELETE /v1/datasets/{id})"
        )


def stored_bytes(session: Session, tenant_id: str) -> int:
    """Bytes of the tenant's data sets, of the files of its jobs, and of uploads that are under way."""
    data = select(func.coalesce(func.sum(Dataset.size_bytes), 0)).where(Dataset.tenant_id == tenant_id)
    files = select(func.coalesce(func.sum(File.size_bytes), 0)).join(Job, Job.id == File.job_id)
    counted = (data, files.where(Job.tenant_id == tenant_id))
    return sum(int(session.scalar(query) or 0) for query in counted) + uploads.open_bytes(session, tenant_id)
