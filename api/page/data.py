"""`/data`: data sets, what was understood of each, its first rows; upload, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from api.context import Context, Here
from api.http.paging import cut, position
from api.http.problems import Problem, invalid
from api.page.answer import Given, PageRoute, go, show, text, upload_of
from api.routes import datasets as asked
from api.schemas import Fault
from core.ledger import datasets, tables
from core.spec.errors import SpecError

ROWS = 50  # a page
PREVIEW = 10
GIVEN: dict[str, TypeAdapter[Any]] = {
    "delimiter": TypeAdapter(asked.Delimiter),
    "encoding": TypeAdapter(asked.Encoding),
    "header": TypeAdapter(bool),
}

router = APIRouter(prefix="/data", include_in_schema=False, route_class=PageRoute)


@router.get("")
def data_page(here: Here, request: Request, cursor: Annotated[str, Query(max_length=200)] = "") -> Response:
    """All of them, newest first."""
    return _listed(here, request, cursor)


@router.post("")
async def upload(here: Here, request: Request, form: Given) -> Response:
    """Take a file in; the page of what came of it is next, or that of a new job."""
    try:
        made = await _upload(here, form)
    except (SpecError, Problem) as error:
        if isinstance(error, Problem) and error.status_code != 422:
            raise
        return await run_in_threadpool(_listed, here, request, "", _faults(error))
    field = text(form, "for")
    return go(f"/new?{field}={made}" if field in ("data", "unlabelled", "source") else f"/data/{made}")


@router.get("/{dataset_id}")
async def dataset_page(here: Here, request: Request, dataset_id: str) -> Response:
    """One of them, with its first rows."""
    row = await run_in_threadpool(asked.get_dataset, here, dataset_id)
    preview = await asked.preview(here, dataset_id, PREVIEW)
    return show(request, "dataset.html", data=row, rows=preview.rows, ms=int(row.created_at.timestamp() * 1000))


@router.get("/{dataset_id}/delete")
def ask_delete(here: Here, request: Request, dataset_id: str) -> Response:
    """Whether that is meant."""
    return show(request, "dataset_delete.html", data=asked.get_dataset(here, dataset_id))


@router.post("/{dataset_id}/delete")
def delete(here: Here, dataset_id: str, form: Given) -> Response:
    """Forget it."""
    asked.delete_dataset(here, dataset_id)
    return go("/data")


async def _upload(here: Context, form: FormData) -> str:
    if (file := upload_of(form, "file")) is None:
        raise invalid([Fault(pointer="/file", detail="is missing: choose a file")])
    given = {name: _read(name, text(form, name)) for name in GIVEN if text(form, name)}
    return (await asked.upload(here, file, Response(), **given)).id


def _read(name: str, value: str) -> Any:
    try:
        return GIVEN[name].validate_python("\t" if value == "\\t" else value)
    except ValidationError as error:
        raise invalid([Fault(pointer=f"/{name}", detail=error.errors()[0]["msg"])]) from None


def _faults(error: SpecError | Problem) -> Sequence[Fault]:
    return error.faults if isinstance(error, Problem) else [Fault(pointer=error.field, detail=error.message)]


def _listed(here: Context, request: Request, cursor: str, faults: Sequence[Fault] = ()) -> Response:
    before = position(cursor or None, "ds")
    with here.database.read() as session:
        rows, following = cut(datasets.page(session, here.tenant_id, ROWS + 1, before), ROWS)
    following = following and quote(following)
    status = 422 if faults else 200
    return show(request, "data.html", status, rows=[*map(_row, rows)], following=following, faults=faults)


def _row(row: tables.Dataset) -> dict[str, Any]:
    notes = (row.understood or {}).get("notes") or []
    names = ("id", "name", "format", "rows", "columns", "size_bytes", "created_at")
    return {name: getattr(row, name) for name in names} | {"notes": notes}
