"""Request bodies, bounded and strict: nothing enters that the database or an answer could not hold."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import Request, Response, params
from fastapi.routing import APIRoute
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.auth import DOOR
from api.http.problems import Problem, invalid, response
from api.schemas import Fault
from core.ledger.datasets import UNSTORABLE
from core.ledger.files.uploads import PART_BYTES

MAX_JSON_BYTES = 2**20
MAX_JSON_VALUES = 5000  # parsed and checked on the event loop: some thousandths of a second
MAX_DEPTH = 32
MAX_FIELD_BYTES = 1024  # of a field of a form that is no file
FRAMING_BYTES = 64 * 2**10  # multipart boundaries and headers around an upload
UPLOADS = ("/v1/datasets", "/data", "/new")  # where a form may bring files
DOOR_BYTES = 16 * 2**10  # of what comes without a key


class BodyLimit:
    """ASGI middleware: a body over the limit is answered with 413, at its declared or its real length."""

    def __init__(self, app: ASGIApp, max_upload_bytes: int) -> None:
        self.app = app
        self.max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        framing = FRAMING_BYTES if kind == "multipart/form-data" else 0
        limit = (self.max_upload_bytes if framing and scope["path"] in UPLOADS else MAX_JSON_BYTES) + framing
        if scope["method"] == "PUT":  # a part of an upload, whatever its type
            limit, framing = PART_BYTES, 0
        if scope["path"].startswith(DOOR):
            limit, framing = DOOR_BYTES, 0
        too_large = Problem(413, f"The body is larger than {limit - framing:,} bytes.")
        declared = headers.get("content-length", "")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
            return await response(too_large)(scope, receive, send)
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise too_large
            return message

        await self.app(scope, bounded, send)


class StrictRoute(APIRoute):
    """Asks for the media type that the route reads, and parses JSON strictly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        handler = super().get_route_handler()
        field = self.body_field
        form = field is not None and isinstance(field.field_info, params.Form)
        wanted = "multipart/form-data" if form else "application/json"
        fields = [one.alias for one in self.dependant.body_params]

        async def strict(request: Request) -> Response:
            given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if field is not None and given != wanted:
                raise Problem(415, f"This address reads {wanted}; set the Content-Type header and send that.")
            if form:
                require_utf8(request.headers)
            return await handler(_StrictRequest(request.scope, request.receive, fields))

        return strict


class _StrictRequest(Request):
    def __init__(self, scope: Scope, receive: Receive, fields: Sequence[str]) -> None:
        super().__init__(scope, receive)
        self._fields = fields

    async def json(self) -> Any:
        return parse_json(await self.body())

    async def _get_form(self, **_limits: Any) -> FormData:
        """The fields that there may be, each once, one of them a file: what else comes is not kept meanwhile."""
        limits = {"max_files": 1, "max_fields": len(self._fields) + 1, "max_part_size": MAX_FIELD_BYTES}
        form = await super()._get_form(**limits)
        names = [name for name, _ in form.multi_items()]
        known = ", ".join(f"'{name}'" for name in self._fields)
        faults = [
            Fault(pointer=f"/{name[:200]}", detail=f"is not a field here; there are {known}")
            for name in dict.fromkeys(names)
            if name not in self._fields
        ]
        faults += [Fault(pointer=f"/{name}", detail="is given twice") for name in self._fields if names.count(name) > 1]
        if faults:
            await form.close()
            raise invalid(faults)
        return form


def require_utf8(headers: Headers) -> None:
    """Raises a 415 Problem for a form in another charset: some that Python has take minutes, or end in a 500."""
    _, options = parse_options_header(headers.get("content-type"))
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise Problem(415, "A form is read as UTF-8; leave 'charset' out of the Content-Type header, and send it so.")


def require_storable(value: str, **where: str) -> None:
    """Raises a 422 Problem for what no database holds: `where` is the pointer, or the parameter."""
    if UNSTORABLE.search(value):
        raise invalid([Fault(**where, detail="holds a NUL character or half of a surrogate pair; leave it out")])


def parse_json(body: bytes) -> Any:
    """The JSON value; raises a 422 Problem for what RFC 8259 or the database does not allow, and for too much of it."""
    # Each value but the first follows one of these. Those in strings count, too: nobody's have thousands.
    if sum(map(body.count, b",[{")) > MAX_JSON_VALUES:
        raise _not_json(f"holds more than {MAX_JSON_VALUES:,} values, or is nested too deep")
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
        _check(value, "", MAX_DEPTH)
    except RecursionError:
        raise _not_json("is nested too deep") from None
    except UnicodeDecodeError as error:
        raise _not_json(f"is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise _not_json(f"is not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except ValueError:  # Python reads no integer of thousands of digits
        raise _not_json("holds a number of thousands of digits") from None
    return value


def _refuse_constant(name: str) -> None:
    raise _not_json(f"is not JSON: {name} is not a JSON number")


def _not_json(detail: str, pointer: str = "") -> Problem:
    return invalid([Fault(pointer=pointer, detail=detail)])


def _check(value: Any, pointer: str, depth: int) -> None:
    if depth == 0:
        raise _not_json("is nested too deep", pointer)
    if isinstance(value, str):
        require_storable(value, pointer=pointer)
    if isinstance(value, float) and not math.isfinite(value):
        raise _not_json("is a number out of range", pointer)
    if isinstance(value, int) and abs(value) >= 2**63:
        raise _not_json("is a number out of range", pointer)
    if isinstance(value, dict):
        for key, item in value.items():
            if UNSTORABLE.search(key):
                raise _not_json("a field's name holds a NUL character or half of a surrogate pair", pointer)
            _check(item, f"{pointer}/{key[:200].replace('~', '~0').replace('/', '~1')}", depth - 1)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check(item, f"{pointer}/{i}", depth - 1)
