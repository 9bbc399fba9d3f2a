"""Every error as RFC 9457 `application/problem+json`, each fault with the place where it lies and how to mend it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from api.http.faults import faults_of
from api.schemas import Fault, ProblemDetails
from core.ledger.database import READ_ONLY_NOW
from core.ledger.files.storage import StorageAwayError
from core.ledger.quotas import QueueFullError, StorageFullError
from core.spec.errors import SpecError

log = logging.getLogger(__name__)

MAX_FAULTS = 50
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
    app.add_exception_handler(ClientDisconnect, _left)
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
    return response(Problem(403, f"The quota has no room for that: {error}."))


async def _storage_away(_request: Request, error: Exception) -> Response:
    log.error("storage error", exc_info=error)
    detail = "The storage is not available at the moment; try again. GET /readyz says more."
    return response(Problem(503, detail, headers={"Retry-After": "5"}))


async def _left(_request: Request, _error: Exception) -> Response:
    return response(Problem(400, "The connection ended before the body did."))


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


def _shortened(one: Fault) -> Fault:
    return one.model_copy(update={"detail": one.detail[:MAX_TEXT], "pointer": one.pointer and one.pointer[:MAX_TEXT]})
