"""Every error as RFC 9457 `application/problem+json`, each fault with the place where it lies and how to mend it."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from api.schemas import Fault, ProblemDetails
from core.ledger.database import READ_ONLY_NOW
from core.ledger.quotas import QueueFullError, StorageFullError
from core.ledger.storage import StorageAwayError
from core.spec.errors import SpecError, meant
from core.spec.job import JobSpec

log = logging.getLogger(__name__)

MAX_FAULTS = 50
MAX_ERRORS = 200  # of pydantic's, looked at
MAX_TEXT = 1000

# What each error answer looks like, for /docs.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemDetails, "description": HTTPStatus(status).phrase}
    for status in (400, 401, 403, 404, 409, 413, 415, 422, 429, 503)
}


class Problem(HTTPException):
    """An answer other than success. `faults` name each wrong part of the request."""

    def __init__(
        self, status: int, detail: str, faults: Iterable[Fault] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.faults = list(faults)


def invalid(faults: Sequence[Fault]) -> Problem:
    """422 that lists the faults."""
    return Problem(422, "The request cannot be carried out; see 'errors' for each fault.", faults)


def faults_of(error: RequestValidationError) -> list[Fault]:
    """One a place."""
    return _faults(error.errors(), error.body)


def fault(error: SpecError) -> Fault:
    """A SpecError as one entry of `errors`."""
    return Fault(pointer=error.field, detail=error.message)


def response(problem: Problem) -> Response:
    """The problem document."""
    document = ProblemDetails(
        title=HTTPStatus(problem.status_code).phrase,
        status=problem.status_code,
        detail=problem.detail[:MAX_TEXT],
        errors=[_shortened(one) for one in problem.faults[:MAX_FAULTS]] or None,
    )
    return JSONResponse(
        document.model_dump(exclude_none=True),
        problem.status_code,
        headers=problem.headers,
        media_type="application/problem+json",
    )


def install(app: FastAPI) -> None:
    """Answer every exception with a problem document."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(SpecError, _spec)
    app.add_exception_handler(QueueFullError, _queue_full)
    app.add_exception_handler(StorageFullError, _storage_full)
    app.add_exception_handler(StorageAwayError, _storage_away)
    app.add_exception_handler(DBAPIError, _database)
    app.add_exception_handler(PoolTimeoutError, _database)


def describe(document: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document with the media type of errors put right, FastAPI's own error model left out, keys put in."""
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path not in ("/healthz", "/readyz"):
                operation["security"] = [{"key": []}]
                operation["responses"] |= {str(status): _described(status) for status in (401, 403)}
            operation["responses"]["422"] = _described(
                422
            )  # any address may be asked with a parameter it does not know
            for status, answer in list(operation["responses"].items()):
                content = answer.get("content", {})
                if "HTTPValidationError" in str(content):
                    del operation["responses"][status]
                elif status[0] in "45" and "application/json" in content:
                    content["application/problem+json"] = content.pop("application/json")
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    return document


def _described(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ProblemDetails"}
    return {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": schema}},
    }


# Handlers are async: they do no I/O, and a sync one would need a free thread just to say no.


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, Problem):
        return response(error)
    if error.status_code == 404:
        return response(Problem(404, "There is nothing at this address; see /docs for what there is."))
    if error.status_code == 405:
        allowed = ", ".join(_allowed(request))
        detail = f"{request.method[:20]} is not allowed here, only {allowed}."
        return response(Problem(405, detail, headers={"Allow": allowed}))
    # FastAPI takes all that fails while it reads a form for the client's fault.
    if isinstance(error.__cause__, OSError):
        return response(unexpected(error.__cause__))
    return response(Problem(error.status_code, str(error.detail), headers=error.headers))


def _allowed(request: Request) -> list[str]:
    """Methods that the address answers, over all of its routes."""

    def answers(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT") if answers(method)]


async def _validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return response(invalid(faults_of(error)))


async def _spec(_request: Request, error: Exception) -> Response:
    assert isinstance(error, SpecError)
    return response(invalid([fault(error)]))


async def _queue_full(_request: Request, error: Exception) -> Response:
    return response(Problem(429, f"The quota is used up: {error}.", headers={"Retry-After": "30"}))


async def _storage_full(_request: Request, error: Exception) -> Response:
    return response(Problem(403, f"The quota is used up: {error}."))


async def _storage_away(_request: Request, error: Exception) -> Response:
    log.error("storage error", exc_info=error)
    detail = "The storage is not available at the moment; try again. GET /readyz says more."
    return response(Problem(503, detail, headers={"Retry-After": "5"}))


async def _database(_request: Request, error: Exception) -> Response:
    return response(database_away(error))


def database_away(error: Exception) -> Problem:
    """503 if the database, or a free connection to it, may come back by itself; else 500."""
    log.error("database error", exc_info=error)
    read_only = getattr(getattr(error, "orig", None), "sqlstate", None) == READ_ONLY_NOW
    if read_only or isinstance(error, OperationalError | InterfaceError | PoolTimeoutError):
        detail = "The database is not available at the moment; try again. GET /readyz says more."
        return Problem(503, detail, headers={"Retry-After": "5"})
    return OURS


def unexpected(error: BaseException) -> Problem:
    """503 if the server's disk is full, else 500; what happened is in the log."""
    log.error("unexpected error", exc_info=error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        detail = "The server's disk is full; try again later, or have the operator make room."
        return Problem(503, detail, headers={"Retry-After": "60"})
    return OURS


OURS = Problem(500, "Something went wrong on our side; the server's log has the details.")


# --- pydantic's errors as faults ----------------------------------------------------------------------------

NO_FIELD = ("missing", "extra_forbidden")

SHAPES = {  # of parameters
    "idempotency-key": "should be visible ASCII characters without spaces; a UUID, say",
    "label": "should be key:value; a key has 1 to 63 of letters, digits and _./-, a value at most 200 characters",
    "sha256": "should be 64 of 0-9 and a-f",
}


def _faults(errors: Sequence[Mapping[str, Any]], body: Any) -> list[Fault]:
    """One fault a place. Of a union, only the branch that fits the input best is reported."""
    branches: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    located = []
    for error in errors[:MAX_ERRORS]:
        pointer, union = _locate(error, body)
        located.append((pointer, union, error))
        if union is not None:
            branches.setdefault(union[0], {}).setdefault(union[1], []).append(error)

    def misfit(found: list[Mapping[str, Any]]) -> tuple[int, int]:
        return sum(error["type"] in NO_FIELD for error in found), len(found)

    best = {where: min(tags, key=lambda tag: misfit(tags[tag])) for where, tags in branches.items()}
    faults: dict[str, Fault] = {}
    for pointer, union, error in located:
        if union is not None and union[1] != best[union[0]]:
            continue
        place, *rest = error["loc"]
        if place == "body":
            detail = _detail(error, pointer)
            tags = set(branches[union[0]]) if union is not None else set()
            if tags == {"int", "float"} and error["type"].endswith("_type"):
                detail = "should be a number"
            elif "bool" in tags and error["type"] == "literal_error":
                detail += ", true or false"
            faults.setdefault(pointer, Fault(pointer=pointer, detail=detail))
        else:
            name = str(rest[0]) if rest else str(place)
            shape = SHAPES.get(name.lower()) if error["type"] == "string_pattern_mismatch" else None
            faults.setdefault(name, Fault(parameter=name, detail=shape or _detail(error, "")))
    return list(faults.values())


def _locate(error: Mapping[str, Any], body: Any) -> tuple[str, tuple[str, str] | None]:
    """JSON pointer of an error, and (pointer, tag) of the first union that it lies in.

    pydantic's `loc` mixes keys with names of union branches; what the body does not hold is such a name.
    """
    pointer, union, value = "", None, body
    path = error["loc"][1:] if error["type"] != "json_invalid" else ()
    for i, part in enumerate(path):
        last = i == len(path) - 1
        held = part in value if isinstance(value, Mapping) else isinstance(value, list) and part in range(len(value))
        if held:
            value = value[part]
        elif not (last and error["type"] == "missing"):
            union = union or (pointer, str(part))
            continue
        pointer += "/" + str(part)[:200].replace("~", "~0").replace("/", "~1")
    # Of what lies between two fields pydantic says which object holds both, and the error itself which one to change.
    return error["type"] if error["type"].startswith("/") else pointer, union


def _detail(error: Mapping[str, Any], pointer: str) -> str:
    message = str(error["msg"])
    if error["type"] == "json_invalid":
        return f"is not JSON: {error.get('ctx', {}).get('error', message)}"
    if error["type"] == "missing":
        return "is required" if pointer else "a body is required"
    if error["type"] == "extra_forbidden":
        parent, _, name = pointer.rpartition("/")
        known = _known_fields(parent)
        return "is not a known field" + (f"{meant(name, known) or ';'} known here: {', '.join(known)}" if known else "")
    if error["type"] in ("dict_type", "model_type", "model_attributes_type"):
        return "should be a JSON object"
    if error["type"] == "literal_error":
        expected = str(error["ctx"]["expected"])
        message += meant(error["input"], re.findall("'([^']*)'", expected))
    if "UploadFile" in message:
        return "should be a file: send it with a file name (curl -F file=@reviews.csv)"
    return message[0].lower() + message[1:] if message.startswith(("Input ", "String ", "List ", "Value ")) else message


@cache
def _job_schema() -> dict[str, Any]:
    return JobSpec.model_json_schema()


@lru_cache(200)
def _known_fields(pointer: str) -> list[str]:
    """Fields of the object at `pointer` in a job specification."""
    schema = _job_schema()
    definitions = schema["$defs"]

    def variants(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        if "$ref" in node:
            return variants(definitions[node["$ref"].rpartition("/")[2]])
        return [found for option in node["anyOf"] for found in variants(option)] if "anyOf" in node else [node]

    nodes: list[Mapping[str, Any]] = [schema]
    for part in pointer.split("/")[1:]:
        children = [n["items"] if part.isdigit() and "items" in n else n.get("properties", {}).get(part) for n in nodes]
        nodes = [found for child in children if child for found in variants(child)]
    return sorted({name for node in nodes for name in node.get("properties", {})})


def _shortened(one: Fault) -> Fault:
    return one.model_copy(update={"detail": one.detail[:MAX_TEXT], "pointer": one.pointer and one.pointer[:MAX_TEXT]})
