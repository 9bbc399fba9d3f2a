"""Jobs, and what hangs on them, as they are asked for: nothing here changes anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any

from sqlalchemy import Row, bindparam, func, select
from sqlalchemy.orm import Session

from core.ledger.database import Database
from core.ledger.tables import Attempt, Event, File, Job

_columns = Job.__table__.c
_SHOWN = select(
    *(_columns[name] for name in ("tenant_id", "id", "version", "status", "stage", "progress", "attempt")),
    *(_columns[name] for name in ("max_attempts", "metrics", "error", "spec", "webhook_secret", "key_id")),
    *(_columns[name] for name in ("created_at", "started_at", "finished_at")),
).where(_columns.tenant_id.in_(bindparam("tenants", expanding=True)), _columns.id.in_(bindparam("ids", expanding=True)))


def find(session: Session, tenant_id: str, job_id: str) -> Job | None:
    """The tenant's job, or None."""
    return session.scalar(select(Job).where(Job.tenant_id == tenant_id, Job.id == job_id))


def shown(database: Database, asked: Set[tuple[str, str]]) -> dict[tuple[str, str], Row[Any]]:
    """What is shown of jobs to those who poll: (tenant, id) -> row, of those that there are."""
    tenants, ids = ({one[i] for one in asked} for i in (0, 1))
    rows = database.rows(_SHOWN, tenants=list(tenants), ids=list(ids))
    return {(row.tenant_id, row.id): row for row in rows}


def page(
    session: Session,
    tenant_id: str,
    limit: int,
    before: str | None = None,
    status: str | None = None,
    labels: Iterable[tuple[str, str]] = (),
) -> Sequence[Job]:
    """Newest first, `limit` at most, those before the id `before`; with that status and all of those labels."""
    query = select(Job).where(Job.tenant_id == tenant_id)
    if status is not None:
        query = query.where(Job.status == status)
    for key, value in labels:
        query = query.where(Job.spec["labels"][key].as_string() == value)
    if before is not None:
        query = query.where(Job.id < before)
    return session.scalars(query.order_by(Job.id.desc()).limit(limit)).all()


def count(session: Session, tenant_id: str, *statuses: str, key_id: str | None = None) -> int:
    """How many jobs of the tenant (that the key queued) are in one of these states."""
    query = select(func.count()).select_from(Job).where(Job.tenant_id == tenant_id, Job.status.in_(statuses))
    if key_id is not None:
        query = query.where(Job.key_id == key_id)
    return session.scalar(query) or 0


def first_successes(session: Session, tenant_id: str, limit: int) -> Sequence[Job]:
    """The tenant's jobs that succeeded at their first attempt, newest first."""
    query = select(Job).where(Job.tenant_id == tenant_id, Job.status == "succeeded", Job.attempt == 1)
    return session.scalars(query.order_by(Job.id.desc()).limit(limit)).all()


def versions(session: Session, ids: Iterable[str]) -> dict[str, int]:
    """Version of each of these jobs that there is; it grows with whatever a client could see change."""
    return dict(session.execute(select(Job.id, Job.version).where(Job.id.in_(ids))).tuples().all())


def events(session: Session, job_id: str, after: int, limit: int | None, kind: str | None = None) -> Sequence[Event]:
    """Events of a job with a larger `seq` than `after`, oldest first."""
    query = select(Event).where(Event.job_id == job_id, Event.seq > after)
    if kind is not None:
        query = query.where(Event.type == kind)
    return session.scalars(query.order_by(Event.seq).limit(limit)).all()


def files(session: Session, job_id: str, kind: str = "output") -> Sequence[File]:
    """Files of a job: `output` to download, `state` to resume from."""
    return session.scalars(select(File).where(File.job_id == job_id, File.kind == kind).order_by(File.path)).all()


def attempts(session: Session, job_id: str) -> Sequence[Attempt]:
    """Every start of the job, oldest first."""
    return session.scalars(select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number)).all()
