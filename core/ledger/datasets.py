"""Data sets: an upload is read once, by a process of its own, and kept as Parquet with what was understood of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Text, cast, select
from sqlalchemy.orm import Session

from core.ledger.files.scratch import scratch
from core.ledger.files.storage import Storage
from core.ledger.jobs import owner, states
from core.ledger.settings import Settings
from core.ledger.tables import Dataset, Job, new_id
from core.rows import sandbox
from core.rows.files.asked import Asked, Limits
from core.rows.files.read import NOTHING
from core.rows.files.understood import Understood
from core.rows.take import Taken, show, take

MAX_NAME_CHARS = 200
MANY = 1000  # among which a name is looked for
# PostgreSQL stores no NUL, UTF-8 no lone surrogate; both would surface only when the job writes its report.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
Row = dict[str, Any]


UNDERSTOOD = TypeAdapter(Understood)


class InUseError(Exception):
    """A job that has not ended reads the data set: `job_id`, one of those."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} uses it")
        self.job_id = job_id


def ingest(
    files: Sequence[Path],
    name: str,
    storage: Storage,
    settings: Settings,
    tenant_id: str,
    check_size: Callable[[int], None] = lambda size_bytes: None,
    asked: Asked = NOTHING,
    class_names: Mapping[str, Sequence[str]] | None = None,
) -> Dataset:
    """Read files of one kind, one after the other, into a stored Parquet table; the caller adds the row it returns.

    `name` is what the user calls them, and says their kind where they do not. `check_size` may refuse the table before
    it is stored, by raising. Raises SpecError('/file') that says what is wrong and where; nothing is left then.
    """
    name = "".join(c for c in name if c.isprintable())[:MAX_NAME_CHARS]
    limits = Limits(settings.max_upload_bytes, settings.max_rows, settings.max_columns, settings.max_cell_chars)
    with scratch(settings) as folder:
        parquet = folder / "table.parquet"
        given = [file.resolve() for file in files], name, parquet, limits, asked, class_names
        taken = sandbox.run(take, *given, returns=Taken, bounds=bounds(settings), scratch=folder, where="/file")
        check_size(parquet.stat().st_size)
        sha256, size = storage.put(parquet)
    understood = taken.understood
    return Dataset(
        id=new_id("ds"),
        tenant_id=tenant_id,
        name=name,
        format=understood.kind,
        upload_sha256=taken.sha256,
        sha256=sha256,
        size_bytes=size,
        rows=understood.rows,
        columns=[column.name for column in understood.columns],
        understood=asdict(understood),
    )


def bounds(settings: Settings) -> sandbox.Bounds:
    """What a process that reads may take."""
    return sandbox.Bounds(settings.reader_memory_bytes, settings.reader_cpu_s, 2 * settings.max_upload_bytes)


def understood(dataset: Dataset) -> Understood | None:
    """What was understood of its file; None of one that an earlier version has read."""
    return UNDERSTOOD.validate_python(dataset.understood) if dataset.understood is not None else None


def find(session: Session, tenant_id: str, dataset_id: str) -> Dataset | None:
    """The tenant's data set, or None."""
    return session.scalar(select(Dataset).where(Dataset.tenant_id == tenant_id, Dataset.id == dataset_id))


def named(session: Session, tenant_id: str, name: str) -> Dataset | None:
    """The tenant's newest data set of that name, or None."""
    query = select(Dataset).where(Dataset.tenant_id == tenant_id, Dataset.name == name)
    return session.scalar(query.order_by(Dataset.id.desc()).limit(1))


def all_named(session: Session, tenant_id: str, name: str) -> Sequence[Dataset]:
    """The tenant's data sets of that name, newest first."""
    query = select(Dataset).where(Dataset.tenant_id == tenant_id, Dataset.name == name)
    return session.scalars(query.order_by(Dataset.id.desc()).limit(MANY)).all()


def names(session: Session, tenant_id: str) -> Sequence[str]:
    """Names of the tenant's newest data sets."""
    query = select(Dataset.name).where(Dataset.tenant_id == tenant_id)
    return session.scalars(query.order_by(Dataset.id.desc()).limit(MANY)).all()


def page(session: Session, tenant_id: str, limit: int, before: str | None = None) -> Sequence[Dataset]:
    """Newest first, `limit` at most, those before the id `before`."""
    query = select(Dataset).where(Dataset.tenant_id == tenant_id)
    if before is not None:
        query = query.where(Dataset.id < before)
    return session.scalars(query.order_by(Dataset.id.desc()).limit(limit)).all()


def remove(session: Session, tenant_id: str, dataset_id: str) -> bool:
    """Forget a data set; its file is swept later. False if the tenant has none such; raises InUseError.

    The tenant is held meanwhile, as it is while a job is accepted: none can be accepted that would miss its data.
    """
    owner.lock_tenant(session, tenant_id)
    dataset = find(session, tenant_id, dataset_id)
    if dataset is None:
        return False
    unfinished = select(Job.id).where(Job.tenant_id == tenant_id, Job.status.not_in(states.TERMINAL))
    user = session.scalar(unfinished.where(cast(Job.spec, Text).contains(dataset_id)).limit(1))
    if user is not None:
        raise InUseError(user)
    session.delete(dataset)
    return True


def preview(dataset: Dataset, storage: Storage, settings: Settings, rows: int) -> list[Row]:
    """The first rows, read by a process of its own."""
    with scratch(settings) as folder:
        file = storage.local(dataset.sha256, folder)
        return sandbox.run(show, file, rows, returns=list[Row], bounds=bounds(settings), scratch=folder, where="/file")
