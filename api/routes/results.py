"""What a job brought, beside its files: curves, the report as JSON or as a page, everything in one archive."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from starlette.responses import StreamingResponse

from api.context import Context, Here
from api.http.problems import RESPONSES, Problem
from api.http.zip import Archive, Entry
from api.routes.files import asked, chunks, opened, send
from api.routes.jobs import find, matches
from api.schemas import Curves, Series
from core.ledger.jobs import queries
from core.ledger.tables import Event, File
from core.spec.messages import StageProgress

Size = Annotated[str | None, Query(description="of a job of several sizes: the one that the report is of")]

# Nothing runs or is sent, whatever stands in it. Its origin stays ours, so that its links to other sizes carry a login.
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'; sandbox allow-same-origin"
)
BINARY = {"type": "string", "format": "binary"}

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["results"])


@router.get("/metrics", responses={404: RESPONSES[404]})
def get_metrics(here: Here, job_id: str) -> Curves:
    """Curves over the steps of each stage, about a point a percent of the job; of steps done twice, the last time."""
    with here.database.read() as session:
        find(here, session, job_id)
        return curves(queries.events(session, job_id, 0, None, kind="progress"))


def curves(events: Iterable[Event]) -> Curves:
    """What events of progress say of sparsity, and of quality on dev."""
    series: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for event in events:
        if (said := _progress(event.data)) is None:
            continue
        stage = " ".join(part for part in ("control" if said.control else "", said.stage, said.size or "") if part)
        for name, value in {"sparsity": said.sparsity, **{f"dev.{n}": v for n, v in (said.dev or {}).items()}}.items():
            if value is None:
                continue
            points = series.setdefault((stage, name), [])
            while points and points[-1][0] >= said.step:
                points.pop()
            points.append((said.step, value))
    return Curves(series=[Series(stage=stage, name=name, points=points) for (stage, name), points in series.items()])


def _progress(data: Mapping[str, Any]) -> StageProgress | None:
    """Of an event as it is stored; None of one of another version that this one cannot read."""
    try:
        return StageProgress.model_validate(data)
    except ValidationError:
        return None


@router.get(
    "/report",
    response_class=Response,
    responses={
        200: {"description": "The report", "content": {"application/json": {}, "text/html": {}}},
        206: {"description": "The part that Range asks for"},
        304: {"description": "If-None-Match names the report as it is"},
        404: RESPONSES[404],
        416: {"description": "Range lies outside the report"},
    },
)
def get_report(here: Here, job_id: str, request: Request, size: Size = None) -> Response:
    """The report: as JSON, or as a page with `Accept: text/html`, as a browser sends it."""
    path = "report.html" if "text/html" in request.headers.get("accept", "") else "report.json"
    answer = stored_report(here, job_id, request, f"{size}/{path}" if size else path)
    answer.headers["Vary"] = "Accept"
    return answer


@router.get("/{size}/report.html", include_in_schema=False)
def get_page_of_size(here: Here, job_id: str, size: str, request: Request) -> Response:
    """Where the links of a report of several sizes lead."""
    return stored_report(here, job_id, request, f"{size}/report.html")


def stored_report(here: Context, job_id: str, request: Request, path: str) -> Response:
    """A file of the report, for a browser to show; raises a 404 Problem."""
    files = {file.path: file for file in _outputs(here, job_id)}
    if path not in files:
        raise Problem(404, f"The job has no {path}.", headers={"Vary": "Accept"})
    answer = send(here, files[path], request, inline=True)
    answer.headers["Content-Security-Policy"] = REPORT_POLICY
    return answer


@router.head("/archive", include_in_schema=False)
@router.get(
    "/archive",
    response_class=Response,
    responses={
        200: {"description": "The archive", "content": {"application/zip": {"schema": BINARY}}},
        206: {"description": "The part that Range asks for"},
        304: {"description": "If-None-Match names the archive as it is"},
        404: RESPONSES[404],
        416: {"description": "Range lies outside the archive"},
    },
)
def get_archive(here: Here, job_id: str, request: Request) -> Response:
    """All files of a job in one zip, not compressed, the same bytes each time. Honours Range, as the files do."""
    files = sorted(_outputs(here, job_id), key=lambda file: file.path)
    archive = Archive([Entry(file.path, file.size_bytes, file.sha256, partial(_part, here, file)) for file in files])
    names = "".join(f"{file.sha256} {file.path}\n" for file in files)
    etag = f'"{hashlib.sha256(names.encode()).hexdigest()}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    for file in files:
        opened(here, file).close()  # a missing file is an error now, and not a broken download later
    span = asked(request, etag, archive.size)
    start, end = span or (0, archive.size)
    headers |= {
        "Content-Length": str(end - start),
        "Content-Type": "application/zip",
        "Content-Disposition": f'attachment; filename="{job_id}.zip"',
        "X-Content-Type-Options": "nosniff",
    }
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{archive.size}"
    if request.method == "HEAD":
        return Response(headers=headers)
    return StreamingResponse(archive.read(start, end), 200 if span is None else 206, headers)


def _part(here: Context, file: File, start: int, end: int) -> Iterator[bytes]:
    yield from chunks(here.storage.open(file.sha256), start, end)


def _outputs(here: Context, job_id: str) -> list[File]:
    """Raises a 404 Problem where there are none."""
    with here.database.read() as session:
        job = find(here, session, job_id)
        files = list(queries.files(session, job_id))
    if not files:
        raise Problem(404, f"The job is {job.status}: only one that has succeeded has results.")
    return files
