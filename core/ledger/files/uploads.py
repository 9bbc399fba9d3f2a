"""Uploads in parts: each part is stored as it comes, so a broken upload goes on where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.ledger.tables import Part, Upload, clock_ms, new_id
from core.rows.files.asked import Asked
from core.rows.files.read import NOTHING

PART_BYTES = 8 * 2**20  # of every part but the last


def create(
    session: Session,
    tenant_id: str,
    name: str,
    size_bytes: int,
    sha256: str,
    key_id: str | None = None,
    asked: Asked = NOTHING,
) -> Upload:
    """An upload without any part yet; `sha256` is that of the whole file, which is to be read as `asked` says."""
    upload = Upload(
        id=new_id("up"),
        tenant_id=tenant_id,
        name=name,
        size_bytes=size_bytes,
        sha256=sha256,
        asked=asdict(asked),
        key_id=key_id,
        created_at=clock_ms(session),
    )
    session.add(upload)
    session.flush()
    return upload


def find(session: Session, tenant_id: str, upload_id: str, *, lock: bool = False) -> Upload | None:
    """The tenant's upload, or None."""
    query = select(Upload).where(Upload.tenant_id == tenant_id, Upload.id == upload_id)
    return session.scalar(query.with_for_update() if lock else query)


def part_count(upload: Upload) -> int:
    """How many parts the file has."""
    return -(-upload.size_bytes // PART_BYTES)


def part_size(upload: Upload, number: int) -> int:
    """Bytes of a part, counted from 1."""
    return min(PART_BYTES, upload.size_bytes - (number - 1) * PART_BYTES)


def parts(session: Session, upload_id: str) -> Sequence[Part]:
    """The parts that have arrived, in order."""
    return session.scalars(select(Part).where(Part.upload_id == upload_id).order_by(Part.number)).all()


def put(session: Session, upload: Upload, number: int, sha256: str) -> None:
    """A part has been stored, or once more."""
    session.merge(Part(upload_id=upload.id, number=number, sha256=sha256))


def complete(session: Session, upload: Upload, dataset_id: str) -> None:
    """The file has become a data set: the parts are no longer needed."""
    upload.dataset_id = dataset_id
    session.execute(delete(Part).where(Part.upload_id == upload.id))


def forget(session: Session, older_than_s: float) -> None:
    """Forget uploads begun longer ago than that, finished or not."""
    session.execute(delete(Upload).where(Upload.created_at < clock_ms(session) - int(older_than_s * 1000)))
