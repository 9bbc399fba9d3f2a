"""A request until it is answered: sent again where it may be, refused in words otherwise."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from topwork.errors import ApiError, ServerAway
from topwork.steps import Pause, Send, Steps

TRIES = 6
ANSWER_S = 60.0  # for an answer, and for each part of one
LONGEST_PAUSE_S = 60.0  # that a server may ask for
WELCOME = (429, 503)  # nothing was done: send it again

Model = TypeVar("Model", bound=BaseModel)


def send(
    method: str, path: str, *, again: bool = True, until: float | None = None, **arguments: Any
) -> Steps[httpx.Response]:
    """The answer. With `again` left out, a lost answer and a fault of the server are asked for again; so is, anyway,
    what never reached it or was only put off. Not for longer than `until`, by the monotonic clock."""
    for attempt in range(TRIES):
        wait_s = backoff(attempt)
        if until is not None:
            left_s = max(1.0, until - time.monotonic())
            arguments["timeout"] = httpx.Timeout(min(left_s, ANSWER_S), connect=5)
        try:
            answer: httpx.Response = yield Send(method, path, arguments)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise ApiError(f"that is no address: {error}; give one such as http://127.0.0.1:8000") from error
        except httpx.TransportError as error:
            never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            if _last(attempt, until) or not (again or never_sent):
                raise away(error) from error
        else:
            if answer.is_success or answer.status_code == httpx.codes.NOT_MODIFIED:
                return answer
            passing = answer.status_code in WELCOME or (again and answer.status_code >= 500)
            if _last(attempt, until) or not passing:
                raise refused(answer)
            wait_s = max(wait_s, retry_after(answer))
        yield Pause(wait_s)
    raise AssertionError("the last try returns or raises")


def _last(attempt: int, until: float | None) -> bool:
    return attempt == TRIES - 1 or (until is not None and time.monotonic() >= until)


def ask(model: type[Model], method: str, path: str, *, again: bool = True, **arguments: Any) -> Steps[Model]:
    """The answer as a model."""
    return parsed(model, (yield from send(method, path, again=again, **arguments)))


def parsed(model: type[Model], answer: httpx.Response) -> Model:
    """An answer as a model; raises ApiError where it is none."""
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        said = f"{answer.url.copy_with(path='/', query=None)} answers no {model.__name__}"
        raise ApiError(f"{said}; is it a Topwork server of this version? ({_first(error)})") from error


def backoff(attempt: int) -> float:
    """Seconds before the next try."""
    return float(min(0.25 * 2**attempt, 4))


def retry_after(answer: httpx.Response) -> float:
    """Seconds that the server asks for."""
    said = answer.headers.get("retry-after", "")
    return min(float(said), LONGEST_PAUSE_S) if said.isdecimal() else 0.0


def away(error: Exception) -> ServerAway:
    """The server was not reached."""
    request = getattr(error, "_request", None)
    where = str(request.url.copy_with(path="", query=None)).rstrip("/") if request is not None else "the server"
    return ServerAway(f"{where} does not answer ({error}); is `topwork serve` running there?")


def refused(answer: httpx.Response) -> ApiError:
    """RFC 9457 problem details as lines."""
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    problem = problem if isinstance(problem, dict) else {}
    faults = problem.get("errors")
    lines = [_line(fault) for fault in (faults if isinstance(faults, list) else []) if isinstance(fault, dict)]
    lines = lines or [str(problem.get("detail") or f"{answer.status_code} {answer.reason_phrase}")]
    kind = ServerAway if answer.status_code >= 500 else ApiError
    return kind("\n".join(lines), answer.status_code)


def part(value: str) -> str:
    """A value as a part of a path."""
    return quote(value, safe="")


def _line(fault: Mapping[str, Any]) -> str:
    return f"{fault.get('pointer') or fault.get('parameter') or 'request'}: {fault.get('detail', '')}"


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
