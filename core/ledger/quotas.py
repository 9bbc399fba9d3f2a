"""What a tenant, and one key of it, may have: jobs that wait, bytes that are kept.

How many run at once, `claims.claim_next` heeds, and that none begins where too much is kept.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.ledger.jobs import owner, queries, states
from core.ledger.settings import Settings
from core.ledger.tables import Dataset, File, Job, Key, Upload


class QueueFullError(Exception):
    """There are as many jobs waiting as there may."""


class StorageFullError(Exception):
    """There are as many bytes kept as there may."""


def check_queue(session: Session, tenant_id: str, key_id: str | None, settings: Settings) -> None:
    """Raises QueueFullError or StorageFullError if the tenant or the key has no room for one more job.

    The tenant is held until the transaction ends, so that requests at once cannot each find the same room.
    """
    owner.lock_tenant(session, tenant_id)
    for whose, one, limit in _limits(session, key_id, "max_queued", settings.max_queued):
        if (waiting := queries.count(session, tenant_id, "queued", key_id=one)) >= limit:
            detail = f"{waiting:,} jobs{whose} are queued already; wait until some have run, or cancel some"
            raise QueueFullError(detail)
    check_storage(session, tenant_id, key_id, settings, 1)


def holds_back(session: Session, tenant_id: str, key_id: str | None, settings: Settings, *, begun: bool) -> str | None:
    """Why no more jobs of the tenant or the key may run for now, or None; those that have begun go on."""
    for _, one, limit in _limits(session, key_id, "max_running", settings.max_running):
        if queries.count(session, tenant_id, *states.RUNNING, key_id=one) >= limit:
            whose = "jobs of the key that queued it" if one else "of your jobs"
            return f"{limit} {whose} run, as many as may at once"
    return None if begun else all_stored(session, tenant_id, key_id, settings.max_stored_bytes)


def check_storage(session: Session, tenant_id: str, key_id: str | None, settings: Settings, more_bytes: int) -> None:
    """Raises StorageFullError if so much more would be too much; holds the tenant like `check_queue`."""
    for whose, one, limit in _limits(session, key_id, "max_stored_bytes", settings.max_stored_bytes):
        owner.lock_tenant(session, tenant_id)
        stored = stored_bytes(session, tenant_id, one)
        if stored + more_bytes > limit:
            raise StorageFullError(f"{more_bytes:,} bytes more were asked for; {_used(stored, limit, whose)}")


def all_stored(session: Session, tenant_id: str, key_id: str | None, max_stored_bytes: int | None) -> str | None:
    """Why no job of the tenant or the key may begin for what is kept already, or None."""
    for whose, one, limit in _limits(session, key_id, "max_stored_bytes", max_stored_bytes):
        if (stored := stored_bytes(session, tenant_id, one)) >= limit:
            return _used(stored, limit, whose)
    return None


def _used(stored: int, limit: int, whose: str) -> str:
    return (
        f"{stored:,} of {limit:,} bytes{whose} are used; delete jobs or data sets that are not needed any more "
        "(DELETE /v1/jobs/{id}, DELETE /v1/datasets/{id})"
    )


def stored_bytes(session: Session, tenant_id: str, key_id: str | None = None) -> int:
    """Bytes of data sets, of files of jobs, and of uploads that are under way: all, or those that the key brought."""
    data = select(func.sum(Dataset.size_bytes)).where(Dataset.tenant_id == tenant_id)
    files = select(func.sum(File.size_bytes)).join(Job, Job.id == File.job_id).where(Job.tenant_id == tenant_id)
    arriving = select(func.sum(Upload.size_bytes)).where(Upload.tenant_id == tenant_id, Upload.dataset_id.is_(None))
    if key_id is not None:
        data, files = data.where(Dataset.key_id == key_id), files.where(Job.key_id == key_id)
        arriving = arriving.where(Upload.key_id == key_id)
    # In one statement: an upload that becomes a data set between two of them would be in neither.
    parts = [func.coalesce(query.scalar_subquery(), 0) for query in (data, files, arriving)]
    return int(session.scalar(select(parts[0] + parts[1] + parts[2])) or 0)


def _limits(
    session: Session, key_id: str | None, name: str, of_tenant: int | None
) -> Iterator[tuple[str, str | None, int]]:
    """The limits in force: (words for a message, the key that is counted or None for all of the tenant's, limit)."""
    if of_tenant is not None:
        yield "", None, of_tenant
    key = session.get(Key, key_id) if key_id is not None else None
    if key is not None and (limit := getattr(key, name)) is not None:
        yield " of this key", key_id, limit
