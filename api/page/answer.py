"""Pages as answers: templates filled in, forms checked, errors in words; nothing runs here that is not ours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Annotated, Any, cast

import starlette.datastructures
from fastapi import Depends, Request, Response, UploadFile
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from api.http import session
from api.http.auth import CALLER, NOBODY
from api.http.body import FRAMING_BYTES, require_storable, require_utf8
from api.http.problems import Problem, invalid
from api.page import words
from api.routes.datasets import require_room
from api.schemas import Fault

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
POLICY = (  # pictures of a data set come as data
    "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}
MAX_FIELDS = 200
MAX_FIELD_BYTES = 2**20
MAX_FIELDS_BYTES = 2**21  # of all together: they are held in memory, as files are not
MAX_TEXT_CHARS = 2**16  # of a field that is no specification: many names of columns
SPECS = ("base", "spec")  # fields that hold one, as JSON


class PageRoute(APIRoute):
    """Reads forms, and checks that they are ours; answers a browser's errors with a page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            session.greet(request)
            try:
                return await _with_form(request, handler)
            except Exception as error:
                if not session.wants_page(request.headers) or (told := await _told(request, error)) is None:
                    raise
                return told

        return answer


async def _with_form(request: Request, handler: Callable[[Request], Coroutine[Any, Any, Response]]) -> Response:
    if request.method != "POST":
        return await handler(request)
    form = await _read(request)
    try:
        caller = request.scope.get(CALLER, NOBODY)
        if caller.by_itself or caller is NOBODY:
            session.require_token(request, form)
        request.state.form = form
        return await handler(request)
    finally:
        await form.close()


async def _read(request: Request) -> FormData:
    """Raises a 413 Problem for fields that are too much, 415 for another charset, 400 for what is no form.

    StorageFullError for files that could not be kept.
    """
    require_utf8(request.headers)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        return await request.form(max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
    await require_room(request, MAX_FIELDS_BYTES + FRAMING_BYTES)
    limits = {"max_files": 3, "max_fields": MAX_FIELDS, "max_part_size": MAX_FIELD_BYTES}
    try:
        return await _Parser(request.headers, request.stream(), **limits).parse()
    except MultiPartException as error:
        raise HTTPException(400, error.message) from None


class _Parser(MultiPartParser):
    _bytes = 0

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """See MultiPartParser."""
        if self._current_part.file is None:
            self._bytes += end - start
            if self._bytes > MAX_FIELDS_BYTES:
                raise Problem(413, f"The fields of the form, files aside, have more than {MAX_FIELDS_BYTES:,} bytes.")
        super().on_part_data(data, start, end)


async def _told(request: Request, error: Exception) -> Response | None:
    """The error as a page; None of one that nobody foresaw."""
    handlers = request.app.exception_handlers
    handle = next((handlers[kind] for kind in type(error).__mro__ if kind in handlers), None)
    if handle is None:
        return None
    answer = await handle(request, error)
    problem = json.loads(answer.body)
    told = show(request, "problem.html", answer.status_code, problem=problem)
    if retry := answer.headers.get("retry-after"):
        told.headers["Retry-After"] = retry
    return told


async def _given(request: Request) -> FormData:
    form: FormData = request.state.form
    return form


Given = Annotated[FormData, Depends(_given)]


def show(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page, filled in for whoever asks."""
    answer = page(drawn(request, template, **values), status)
    session.remember(request, answer)
    return answer


def page(body: str, status: int = 200) -> Response:
    """What was drawn, as an answer."""
    return Response(body, status, HEADERS, "text/html; charset=utf-8")


def drawn(request: Request, template: str, **values: Any) -> str:
    """A template, filled in."""
    caller = request.scope.get(CALLER, NOBODY)
    common = {
        "token": session.form_token(request),
        "scopes": caller.scopes,
        "logged_in": session.LOGIN in request.cookies and caller.by_itself and caller.key_id is not None,
        "path": request.url.path,
        "static": _static,
    }
    return _templates().get_template(template).render(common | values)


def go(address: str) -> Response:
    """Look at another page, after a form."""
    return Response(status_code=303, headers={"Location": address, "Cache-Control": "no-store"})


def text(form: FormData, name: str) -> str:
    """A field of a form, trimmed; empty where it is missing. Raises a 422 Problem: it is too long, or holds a NUL."""
    return next(reversed(texts(form, name)), "").strip()


def texts(form: FormData, name: str) -> list[str]:
    """All fields of a name; raises like `text`."""
    found = [one for one in form.getlist(name) if isinstance(one, str)]
    longest = max(map(len, found), default=0)
    if longest > MAX_TEXT_CHARS and name not in SPECS:
        detail = f"has {longest:,} characters; give at most {MAX_TEXT_CHARS:,}"
        raise invalid([Fault(pointer=f"/{name}", detail=detail)])
    for one in found:
        require_storable(one, pointer=f"/{name}")
    return found


def upload_of(form: FormData, name: str) -> UploadFile | None:
    """A file of a form; None where none was chosen."""
    file = form.get(name)
    return cast(UploadFile, file) if isinstance(file, starlette.datastructures.UploadFile) and file.filename else None


def missing(what: str) -> HTTPException:
    """404."""
    return HTTPException(404, what)


@cache
def _templates() -> Environment:
    loader = FileSystemLoader(FOLDER / "templates", encoding="utf-8")
    found = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=loader,
        auto_reload=False,  # an upgrade beside a process that runs would give it templates of another version
    )
    found.filters |= words.FILTERS
    return found


@cache
def _static(name: str) -> str:
    """The address of a file, which is another one when the file is."""
    return f"/static/{name}?{hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]}"
