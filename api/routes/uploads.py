"""`/v1/uploads`: a data set in parts, for files and networks where one long request would break."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Sequence
from typing import IO, Annotated

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.openapi.models import Example
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api.context import Context, Here
from api.http.body import StrictRoute
from api.http.problems import RESPONSES, Problem, invalid
from api.routes.datasets import DELIMITER, ENCODING, EXAMPLE, HEADER, Delimiter, Encoding, described, file_name
from api.schemas import Dataset, Fault, Upload, instant
from core.ledger import datasets, quotas, tables
from core.ledger.files import uploads
from core.ledger.files.scratch import scratch
from core.ledger.files.storage import CHUNK, file_sha256
from core.rows.files.asked import Asked
from core.spec.errors import SpecError

FILE = EXAMPLE["file"].encode()
SHA256 = hashlib.sha256(FILE).hexdigest()
EXAMPLES: dict[str, Example] = {"csv": {"value": {"name": "reviews.csv", "size_bytes": len(FILE), "sha256": SHA256}}}
SPOOL_BYTES = 2**20  # of a part, held in memory; more goes to a file
OCTETS = "application/octet-stream"
BINARY = {"schema": {"type": "string", "format": "binary"}, "example": EXAMPLE["file"]}

router = APIRouter(prefix="/v1/uploads", tags=["data sets"], route_class=StrictRoute)

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class UploadRequest(BaseModel):
    """A file to upload."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=200,
            description="of the file; its ending may say what it is",
            examples=["reviews.csv"],
        ),
    ]
    size_bytes: Annotated[int, Field(ge=1)]
    sha256: Annotated[Sha256, Field(description="of the whole file")]
    delimiter: Annotated[Delimiter | None, Field(description=DELIMITER)] = None
    encoding: Annotated[Encoding | None, Field(description=ENCODING)] = None
    header: Annotated[bool | None, Field(description=HEADER)] = None


@router.post("", status_code=201, responses={s: RESPONSES[s] for s in (403, 413, 415, 422)})
def begin(here: Here, body: Annotated[UploadRequest, Body(openapi_examples=EXAMPLES)], response: Response) -> Upload:
    """Announce a file. The upload is forgotten a day later; a data set that came of it stays."""
    limit = here.settings.max_upload_bytes
    if body.size_bytes > limit:
        raise Problem(
            413, f"The file is larger than {limit:,} bytes.", [Fault(pointer="/size_bytes", detail="is too much")]
        )
    name = file_name(body.name, "/name")
    asked = Asked(body.delimiter, body.encoding, body.header)
    with here.database.begin() as session:
        quotas.check_storage(session, here.tenant_id, here.caller.key_id, here.settings, body.size_bytes)
        row = uploads.create(session, here.tenant_id, name, body.size_bytes, body.sha256, here.caller.key_id, asked)
    response.headers["Location"] = f"/v1/uploads/{row.id}"
    return _upload(row, [])


@router.get("/{upload_id}", responses={404: RESPONSES[404]})
def get_upload(here: Here, upload_id: str) -> Upload:
    """Which parts have arrived."""
    with here.database.read() as session:
        row = _find(here, session, upload_id)
        return _upload(row, uploads.parts(session, row.id))


@router.put(
    "/{upload_id}/parts/{number}",
    status_code=204,
    responses={s: RESPONSES[s] for s in (403, 404, 409, 413, 415, 422, 503)},
    openapi_extra={"requestBody": {"required": True, "content": {OCTETS: BINARY}}},
)
async def put_part(
    here: Here,
    upload_id: str,
    number: int,
    request: Request,
    sha256: Annotated[Sha256, Query(description="of this part", examples=[SHA256])],
) -> None:
    """Send a part: `part_bytes` of the file, the last one what is left. To send the same bytes again is harmless."""
    row = await run_in_threadpool(_open, here, upload_id, number, sha256)
    if request.headers.get("content-type", OCTETS).partition(";")[0].strip().lower() != OCTETS:
        raise Problem(415, f"A part is sent as it is: set the Content-Type header to {OCTETS}, or leave it out.")
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as part:
        async for chunk in request.stream():
            part.write(chunk)  # into memory, or a disk that does not wait: a few kB
        await run_in_threadpool(_store, here, row, number, sha256, part)


@router.post("/{upload_id}/complete", status_code=201, responses={s: RESPONSES[s] for s in (403, 404, 409, 422, 503)})
async def complete(here: Here, upload_id: str, response: Response) -> Dataset:
    """Make the data set, once all parts are there. To ask again gives the same one."""
    row, arrived = await run_in_threadpool(_arrived, here, upload_id)
    if row.dataset_id is None:
        if len(arrived) < uploads.part_count(row):
            missing = sorted(set(range(1, uploads.part_count(row) + 1)) - {part.number for part in arrived})
            raise Problem(409, f"Parts are missing: {', '.join(map(str, missing[:20]))}.")
        try:
            row = await here.readers.run(here.tenant_id, _finish, here, row, arrived)
        except FileNotFoundError:  # a twin was faster, or the upload was abandoned, and its parts have been swept
            row, _ = await run_in_threadpool(_arrived, here, upload_id)
            if row.dataset_id is None:
                raise
    dataset = await run_in_threadpool(_dataset, here, str(row.dataset_id))
    response.headers["Location"] = f"/v1/datasets/{dataset.id}"
    return described(dataset)


def _arrived(here: Context, upload_id: str) -> tuple[tables.Upload, Sequence[tables.Part]]:
    with here.database.read() as session:
        return _find(here, session, upload_id), uploads.parts(session, upload_id)


def _dataset(here: Context, dataset_id: str) -> tables.Dataset:
    with here.database.read() as session:
        dataset = datasets.find(session, here.tenant_id, dataset_id)
    if dataset is None:
        raise Problem(404, "The data set that came of this upload has been deleted.")
    return dataset


@router.delete("/{upload_id}", status_code=204, responses={404: RESPONSES[404]})
def abandon(here: Here, upload_id: str) -> None:
    """Forget an upload and its parts; a data set that came of it stays."""
    with here.database.begin() as session:
        session.delete(_find(here, session, upload_id))


def _finish(here: Context, row: tables.Upload, arrived: Sequence[tables.Part]) -> tables.Upload:
    with scratch(here.settings) as folder:
        file = folder / "upload"
        with file.open("wb") as whole:
            for part in arrived:
                with here.storage.open(part.sha256) as data:
                    shutil.copyfileobj(data, whole, CHUNK)
        if file_sha256(file) != row.sha256:
            raise invalid([Fault(pointer="", detail="the parts together do not have the sha256 that was announced")])
        table = [file], row.name, here.storage, here.settings, here.tenant_id
        asked = Asked(**(row.asked or {}))
        try:
            dataset = datasets.ingest(*table, lambda size_bytes: _check_size(here, row.id, size_bytes), asked)
        except SpecError as error:  # this request has no field 'file'
            raise invalid([Fault(pointer="", detail=error.message)]) from None
    with here.database.begin() as session:
        locked = _find(here, session, row.id, lock=True)
        if locked.dataset_id is None:  # else a twin of this request was faster
            _check_room(here, session, locked, dataset.size_bytes)
            dataset.key_id = locked.key_id
            session.add(dataset)
            uploads.complete(session, locked, dataset.id)
        return locked


def _check_size(here: Context, upload_id: str, size_bytes: int) -> None:
    """Before the table is stored."""
    with here.database.begin() as session:
        row = _find(here, session, upload_id, lock=True)
        if row.dataset_id is None:
            _check_room(here, session, row, size_bytes)


def _check_room(here: Context, session: Session, row: tables.Upload, size_bytes: int) -> None:
    """Raises StorageFullError where the table is too large: it may be larger than the file, which is counted so far."""
    quotas.check_storage(session, here.tenant_id, row.key_id, here.settings, size_bytes - row.size_bytes)


def _open(here: Context, upload_id: str, number: int, sha256: str) -> tables.Upload:
    with here.database.read() as session:
        row = _find(here, session, upload_id)
        if row.dataset_id is not None:
            raise Problem(409, "The upload is complete already.")
        if not 1 <= number <= uploads.part_count(row):
            raise Problem(404, f"The file has the parts 1 to {uploads.part_count(row)}.")
        _refuse_another(session, row, number, sha256)
    return row


def _refuse_another(session: Session, row: tables.Upload, number: int, sha256: str) -> None:
    """A part that could be replaced without end would fill the disk beyond any quota."""
    there = session.get(tables.Part, (row.id, number))
    if there is not None and there.sha256 != sha256:
        detail = (
            f"Part {number} has arrived with other bytes; to change it, DELETE /v1/uploads/{row.id} and begin again."
        )
        raise Problem(409, detail)


def _store(here: Context, row: tables.Upload, number: int, sha256: str, content: IO[bytes]) -> None:
    size, wanted = content.tell(), uploads.part_size(row, number)
    if size != wanted:
        detail = f"has {size:,} bytes; part {number} of this file has {wanted:,}"
        raise invalid([Fault(pointer="", detail=detail)])
    content.seek(0)
    with scratch(here.settings) as folder:
        part = folder / "part"
        with part.open("wb") as copy:
            shutil.copyfileobj(content, copy, CHUNK)
        if file_sha256(part) != sha256:
            detail = "is not that of the bytes that arrived; send the part again"
            raise invalid([Fault(parameter="sha256", detail=detail)])
        here.storage.put(part)
    with here.database.begin() as session:
        row = _find(here, session, row.id, lock=True)
        if row.dataset_id is None:
            _refuse_another(session, row, number, sha256)
            uploads.put(session, row, number, sha256)


def _find(here: Context, session: Session, upload_id: str, *, lock: bool = False) -> tables.Upload:
    known = re.fullmatch("up_[0-9a-f]{32}", upload_id)
    row = uploads.find(session, here.tenant_id, upload_id, lock=lock) if known else None
    if row is None:
        raise Problem(404, "There is no such upload; it may be over a day old. POST /v1/uploads begins one.")
    return row


def _upload(row: tables.Upload, arrived: Sequence[tables.Part]) -> Upload:
    return Upload(
        id=row.id,
        name=row.name,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        part_bytes=uploads.PART_BYTES,
        parts=uploads.part_count(row),
        arrived=[part.number for part in arrived],
        dataset=row.dataset_id,
        created_at=instant(row.created_at),
    )
