"""A server that a test scripts: httpx's own transport double, with a log of what was asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from topwork import AsyncClient, Client

Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


class Stub:
    """Answers requests in turn, the last answer for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []

    def client(self) -> Client:
        """A client of this server that does not really wait."""
        return Client("http://stub", transport=httpx.MockTransport(self._answer), pause=self.pauses.append)

    def async_client(self) -> AsyncClient:
        """As `client`, with `await`."""

        async def pause(seconds: float) -> None:
            self.pauses.append(seconds)

        return AsyncClient("http://stub", transport=httpx.MockTransport(self._answer), pause=pause)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer


class Cut(httpx.SyncByteStream):
    """A body that breaks off."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __iter__(self) -> Any:
        yield self.content
        raise httpx.ReadError("connection reset")


class FileServer:
    """Serves files of a job as the API does: ranges, If-Range; cuts the body short the first `cuts` times."""

    def __init__(self, files: dict[str, bytes], cuts: Sequence[int] = ()) -> None:
        self.files, self.cuts = files, list(cuts)
        self.sent = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """The answer."""
        if request.url.path.endswith("/files"):
            items = [output(path, sha256(content), f"/files/{path}") for path, content in self.files.items()]
            return httpx.Response(200, json={"items": items})
        content = self.files[request.url.path.removeprefix("/files/")]
        start = 0
        if request.headers.get("if-range") == f'"{sha256(content)}"':
            start = int(request.headers["range"].removeprefix("bytes=").rstrip("-"))
        if start >= len(content) > 0:
            return httpx.Response(416)
        body, status = content[start:], 206 if start else 200
        if self.cuts:
            part = body[: self.cuts.pop(0)]
            self.sent += len(part)
            return httpx.Response(status, stream=Cut(part))
        self.sent += len(body)
        return httpx.Response(status, stream=httpx.ByteStream(body))


def sha256(content: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(content).hexdigest()


AT = "2026-11-29T12:00:00Z"


def output(path: str, digest: str, href: str) -> dict[str, Any]:
    """A file of a job as the API lists it."""
    return {"path": path, "sha256": digest, "href": href, "size_bytes": 1, "media_type": "application/octet-stream"}


def job(status: str = "running", **changes: Any) -> dict[str, Any]:
    """A job as the API answers it."""
    spec = {"model": "m", "task": {"type": "text-classification", "metric": "accuracy"}, "budget": {"params": 0.1}}
    base = {"id": "job_" + "1" * 32, "status": status, "stage": None, "progress": {}, "attempt": 1, "max_attempts": 3}
    return {**base, "error": None, "metrics": None, "spec": spec, "created_at": AT, "links": {}, **changes}


def dataset(**changes: Any) -> dict[str, Any]:
    """A data set as the API answers it."""
    sums = {"sha256": "0" * 64, "upload_sha256": "0" * 64}
    base = {"id": "ds_1", "name": "a.csv", "format": "csv", "rows": 9, "columns": ["text", "label"], "size_bytes": 1}
    return {**base, **sums, "understood": None, "created_at": AT, "links": {}, **changes}


def page(*items: Any, following: str | None = None) -> httpx.Response:
    """A page of a list."""
    return httpx.Response(200, json={"items": [*items], "next": following})


NO_EVENTS = httpx.Response(200, json={"items": [], "after": 0})
