"""`/v1/datasets`: upload, list, look, delete."""

from __future__ import annotations

import codecs
import re
import shutil
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response, UploadFile
from pydantic import AfterValidator, Field
from starlette.concurrency import run_in_threadpool

from api.context import Context, Here, context
from api.http.body import FRAMING_BYTES, StrictRoute
from api.http.paging import After, Limit, cut, position
from api.http.problems import RESPONSES, Problem, invalid
from api.schemas import Dataset, DatasetPage, Fault, Preview, instant
from core.ledger import datasets, quotas, tables
from core.ledger.files.scratch import scratch
from core.ledger.files.storage import CHUNK
from core.rows.files.asked import Asked

ID = "ds_[0-9a-f]{32}"

DELIMITER = "the one character between the cells of a line; found out without"
ENCODING = "of a text file, 'latin-1' say; found out without"
HEADER = "whether the first line names the columns; found out without"


def _encoding(name: str) -> str:
    try:
        text = codecs.lookup(name)._is_text_encoding
    except LookupError:
        text = False
    if not text:
        raise ValueError(
            "is no encoding of text that is known here; give 'utf-8', 'utf-16', 'latin-1' or 'cp1252', say"
        )
    return name


Delimiter = Annotated[str, Field(min_length=1, max_length=1, examples=[";"])]
Encoding = Annotated[
    str, Field(max_length=40, pattern="^[A-Za-z0-9_.-]+$", examples=["latin-1"]), AfterValidator(_encoding)
]


async def require_room(request: Request, beside: int) -> None:
    """Raises StorageFullError for an upload that could not be kept, before it is read; `beside`: bytes of no file."""
    here, declared = await context(request), request.headers.get("content-length", "")
    size = int(declared) - beside if declared.isdecimal() else 1
    if size > 0:
        await run_in_threadpool(_check_size, here, size)


class _Route(StrictRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        handler = super().get_route_handler()

        async def roomy(request: Request) -> Response:
            if request.method == "POST":
                await require_room(request, FRAMING_BYTES)
            return await handler(request)

        return roomy


router = APIRouter(prefix="/v1/datasets", tags=["data sets"], route_class=_Route)


EXAMPLE = {"file": "text,label\nSturdy and light.,positive\nIt broke within a week.,negative\n"}


@router.post(
    "",
    status_code=201,
    responses={s: RESPONSES[s] for s in (400, 403, 413, 415, 422, 503)},
    openapi_extra={"requestBody": {"content": {"multipart/form-data": {"example": EXAMPLE}}}},
)
async def upload(
    here: Here,
    file: UploadFile,
    response: Response,
    delimiter: Annotated[Delimiter | None, Form(description=DELIMITER)] = None,
    encoding: Annotated[Encoding | None, Form(description=ENCODING)] = None,
    header: Annotated[bool | None, Form(description=HEADER)] = None,
) -> Dataset:
    """Upload a table: CSV, TSV, JSON, JSON Lines, Parquet, Arrow, Excel or CoNLL, also compressed; a zip of pictures.

    What the file is, is found out; the answer says in words what was understood. The other fields tell what was not.
    """
    name = file_name(file.filename or "", "/file")
    limit = here.settings.max_upload_bytes
    if file.size is not None and file.size > limit:
        raise Problem(413, f"The file is larger than {limit:,} bytes.", [Fault(pointer="/file", detail="is too large")])
    row = await here.readers.run(here.tenant_id, _ingest, here, file, name, Asked(delimiter, encoding, header))
    response.headers["Location"] = f"/v1/datasets/{row.id}"
    return described(row)


def _ingest(here: Context, file: UploadFile, name: str, asked: Asked) -> tables.Dataset:
    check_size = partial(_check_size, here)  # what is refused is not stored; requests at once are told apart below
    with scratch(here.settings) as folder:
        with (folder / "upload").open("wb") as copy:
            shutil.copyfileobj(file.file, copy, CHUNK)
        row = datasets.ingest([folder / "upload"], name, here.storage, here.settings, here.tenant_id, check_size, asked)
    with here.database.begin() as session:
        quotas.check_storage(session, here.tenant_id, here.caller.key_id, here.settings, row.size_bytes)
        row.key_id = here.caller.key_id
        session.add(row)
    return row


def _check_size(here: Context, size_bytes: int) -> None:
    with here.database.begin() as session:
        quotas.check_storage(session, here.tenant_id, here.caller.key_id, here.settings, size_bytes)


@router.get("", responses={422: RESPONSES[422]})
def list_datasets(here: Here, limit: Limit = 20, cursor: After = None) -> DatasetPage:
    """Data sets, newest first."""
    before = position(cursor, "ds")
    with here.database.read() as session:
        rows, following = cut(datasets.page(session, here.tenant_id, limit + 1, before), limit)
    return DatasetPage(items=[described(row) for row in rows], next=following)


@router.get("/{dataset_id}", responses={404: RESPONSES[404]})
def get_dataset(here: Here, dataset_id: str) -> Dataset:
    """One data set."""
    return described(_find(here, dataset_id))


@router.delete("/{dataset_id}", status_code=204, responses={s: RESPONSES[s] for s in (404, 409)})
def delete_dataset(here: Here, dataset_id: str) -> None:
    """Forget a data set. Jobs that have ended keep what they made of it."""
    if not re.fullmatch(ID, dataset_id):
        raise _no_such_dataset()
    with here.database.begin() as session:
        try:
            known = datasets.remove(session, here.tenant_id, dataset_id)
        except datasets.InUseError as error:
            detail = f"The job {error.job_id} uses it; wait for its end, or POST /v1/jobs/{error.job_id}/cancel."
            raise Problem(409, detail) from None
    if not known:
        raise _no_such_dataset()


@router.get("/{dataset_id}/preview", responses={s: RESPONSES[s] for s in (404, 422)})
async def preview(here: Here, dataset_id: str, rows: Annotated[int, Query(ge=1, le=100)] = 10) -> Preview:
    """The first rows; cells of more than 1,000 characters are shortened."""
    row = await run_in_threadpool(_find, here, dataset_id)
    table = await here.readers.run(here.tenant_id, datasets.preview, row, here.storage, here.settings, rows)
    return Preview(columns=row.columns, rows=table, understood=row.understood)


def file_name(given: str, pointer: str) -> str:
    """The name alone, without folders; raises a 422 Problem."""
    name = given.replace("\\", "/").rpartition("/")[2]
    if not name or datasets.UNSTORABLE.search(name):
        raise invalid([Fault(pointer=pointer, detail="is no usable file name; give one that ends in .csv, say")])
    return name


def _find(here: Context, dataset_id: str) -> tables.Dataset:
    row = None
    if re.fullmatch(ID, dataset_id):
        with here.database.read() as session:
            row = datasets.find(session, here.tenant_id, dataset_id)
    if row is None:
        raise _no_such_dataset()
    return row


def _no_such_dataset() -> Problem:
    return Problem(404, "There is no such data set; GET /v1/datasets lists what there is.")


def described(row: tables.Dataset) -> Dataset:
    """A data set as it is answered."""
    here = f"/v1/datasets/{row.id}"
    return Dataset.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "format": row.format,
            "rows": row.rows,
            "columns": row.columns,
            "size_bytes": row.size_bytes,
            "sha256": row.sha256,
            "upload_sha256": row.upload_sha256,
            "understood": row.understood,
            "created_at": instant(row.created_at),
            "links": {"self": here, "preview": f"{here}/preview"},
        }
    )
