"""`/v1/jobs/{id}/files`: downloads that can be resumed (RFC 9110 ranges) and checked (ETag = sha256)."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import PurePosixPath
from typing import BinaryIO
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from api.context import Context, Here
from api.http.problems import RESPONSES, Problem
from api.routes.jobs import find, matches
from api.schemas import FileList, OutputFile
from core.ledger.files.storage import CHUNK, DamagedError
from core.ledger.jobs import queries
from core.ledger.tables import File

log = logging.getLogger("topwork.api")

OTHER = "application/octet-stream"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown; charset=utf-8",
    ".py": "text/x-python; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}

# Outputs hold the user's text. No file of a job may run anything or fetch anything in the API's origin.
CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"

router = APIRouter(prefix="/v1/jobs/{job_id}/files", tags=["files"])


@router.get("", responses={404: RESPONSES[404]})
def list_files(here: Here, job_id: str) -> FileList:
    """The files of a job, with their sha256; none until it has succeeded."""
    with here.database.read() as session:
        find(here, session, job_id)
        rows = queries.files(session, job_id)
    return FileList(
        items=[
            OutputFile(
                path=row.path,
                size_bytes=row.size_bytes,
                sha256=row.sha256,
                media_type=_media_type(row.path),
                href=f"/v1/jobs/{job_id}/files/{quote(row.path)}",
            )
            for row in rows
        ]
    )


@router.head("/{path:path}", include_in_schema=False)
@router.get(
    "/{path:path}",
    response_class=Response,
    responses={
        200: {
            "description": "The file",
            "content": {kind.partition(";")[0]: {} for kind in (*MEDIA_TYPES.values(), OTHER)},
        },
        206: {"description": "The part that Range asks for"},
        304: {"description": "If-None-Match names the file as it is"},
        307: {"description": "The file is to be had from the storage, for a few minutes, at Location"},
        404: RESPONSES[404],
        416: {"description": "Range lies outside the file"},
    },
)
def download(here: Here, job_id: str, path: str, request: Request) -> Response:
    """Download a file. Honours Range, If-Range and If-None-Match; the ETag is the sha256."""
    return send(here, _find(here, job_id, path), request)


def send(here: Context, file: File, request: Request, inline: bool = False) -> Response:
    """A file, or the part of it that the request's headers ask for; `inline`: for a browser to show."""
    etag = f'"{file.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": CONTENT_POLICY,
        "X-Content-Type-Options": "nosniff",
    }
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    span = asked(request, etag, file.size_bytes)
    start, end = span or (0, file.size_bytes)
    name = quote(PurePosixPath(file.path).name, safe="")
    described = {
        "Content-Type": _media_type(file.path),
        "Content-Disposition": f"{'inline' if inline else 'attachment'}; filename*=utf-8''{name}",
    }
    # A page that a browser shows needs our policy, and If-Range our ETag: the storage knows neither.
    direct = here.settings.downloads == "redirect" and not inline and "if-range" not in request.headers
    if direct and request.method == "GET" and (link := here.storage.link(file.sha256, described)):
        return Response(status_code=307, headers={"Location": link, "Cache-Control": "no-store"})
    headers |= {"Content-Length": str(end - start)} | described
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size_bytes}"
    if request.method == "HEAD":
        return Response(headers=headers)
    # Opened here and not in the stream, so that a missing file is an error and not a broken download.
    content = chunks(opened(here, file), start, end)
    return StreamingResponse(content, 200 if span is None else 206, headers)


def _find(here: Context, job_id: str, path: str) -> File:
    with here.database.read() as session:
        find(here, session, job_id)
        for file in queries.files(session, job_id):
            if file.path == path:
                return file
    raise Problem(404, f"The job has no such file; GET /v1/jobs/{job_id}/files lists what there is.")


def asked(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """The part that `Range` and `If-Range` ask for, as first byte and the one after the last; None: everything."""
    if request.method != "GET" or request.headers.get("if-range", etag) != etag:
        return None
    return _span(request.headers.get("range", ""), size)


def _span(header: str, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last of a single range; None to send everything.

    A header that is malformed, or that asks for several ranges, is ignored, as RFC 9110 14.2 allows. Raises a 416
    Problem for a range outside the file.
    """
    match = re.fullmatch(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", header, re.ASCII | re.IGNORECASE)
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= end:
        outside = {"Content-Range": f"bytes */{size}"}
        raise Problem(416, f"The range lies outside the file of {size:,} bytes.", headers=outside)
    return start, end


def opened(here: Context, file: File) -> BinaryIO:
    """The stored file; raises a 500 Problem where it is missing or cut short."""
    try:
        data = here.storage.open(file.sha256)
        size = data.seek(0, os.SEEK_END)
    except FileNotFoundError:
        size = None
    if size == file.size_bytes:
        return data
    log.error("stored file %s: %s of %d bytes are there", file.sha256, size or 0, file.size_bytes)
    raise Problem(500, "The stored file is missing or damaged; have the operator put it back from a backup.")


def chunks(data: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """The bytes from `start` up to `end`; closes the file. Raises DamagedError, which ends the connection, where the
    file ends first."""
    with closing(data):
        data.seek(start)
        while start < end:
            if not (chunk := data.read(min(CHUNK, end - start))):
                raise DamagedError(f"a stored file ended {end - start} bytes too early")
            start += len(chunk)
            yield chunk


def _media_type(path: str) -> str:
    return MEDIA_TYPES.get(PurePosixPath(path).suffix, OTHER)
