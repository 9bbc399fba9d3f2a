"""What a client may make the server hold: sockets, the head of a request, time. uvicorn bounds none of these.

At the most sockets, the one that has waited longest for its client makes room, so that whoever opens many and says
nothing, or stops in a body, keeps nobody out. A client has `HEAD_S` for the head of a request, `STEP_S` for each
`STEP_BYTES` of its body and for each piece of an answer. Of a body that was answered before its end, `LATE_BYTES` more
are read and thrown away, so that a client that writes first and reads then gets its answer; whoever sends more is hung
up on.
"""

from __future__ import annotations

import asyncio
import json
import resource
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 20.0
STEP_S, STEP_BYTES = 60.0, 2**16
MAX_HEAD_BYTES = 2**15
MAX_HEADERS = 100
LATE_BYTES = 2**25
FREE_CHUNKS, CHUNK_BYTES = 1000, 256  # chunks of a body: so many, and one more for each so many bytes
MAX_PIPELINED = 16
HEAD_TOO_LARGE = f"A request has at most {MAX_HEAD_BYTES:,} bytes and {MAX_HEADERS} lines before its body."
MAX_FILES = 2**16
MAX_SOCKETS = 4096
MAX_BACKLOG = 4096


def raise_file_limit() -> None:
    """As many open files as the system lets this process have: what is usual, 1,024, is few for sockets and files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if _files() < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_FILES if soft == resource.RLIM_INFINITY else min(soft, MAX_FILES)


def backlog() -> int:
    """Connections that may wait to be accepted, and are then at once, before any can make room."""
    return min(MAX_BACKLOG, _files() // 8)


def max_sockets() -> int:
    """A third of what may be open: an answer may need a file and a connection of its own."""
    return min(MAX_SOCKETS, _files() // 3)


class Bounded(HttpToolsProtocol):
    """uvicorn's protocol on httptools, bounded."""

    _idle: ClassVar[dict[Bounded, None]] = {}  # whose client's turn it is, the one that waits the longest first

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head = self._step = self._body = self._late = self._chunks = 0
        self._refused, self._detail = 400, ""

    # --- sockets --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._idle[self] = None
        if len(self.connections) > max_sockets():
            longest = next(iter(self._idle))
            del self._idle[longest]
            longest.transport.abort()
        self._allow(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._allow(None)
        self._idle.pop(self, None)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """See HttpToolsProtocol."""
        following = self.pipeline[-1][0] if self.pipeline else None
        if (following is None or following.more_body) and not self.transport.is_closing():
            self._idle[self] = None
        super().on_response_complete()

    def _come_last(self) -> None:
        """Of those whose client's turn it is: what has come so far is not waited for any more."""
        if self in self._idle:
            del self._idle[self]
            self._idle[self] = None

    # --- time -----------------------------------------------------------------------------------------------

    def _allow(self, seconds: float | None) -> None:
        """From now on, the client has so long; None: it is not its turn."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._timer = None
        if self.flow is not None and self.flow.read_paused and not self.flow.write_paused:
            self._allow(STEP_S)  # we are slower
        else:
            self.transport.abort()

    def timeout_keep_alive_handler(self) -> None:
        """See HttpToolsProtocol: the end of an answer may still be on its way."""
        super().timeout_keep_alive_handler()
        self._allow(STEP_S)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        self._allow(STEP_S)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        self._allow(STEP_S if self.cycle is not None and self.cycle.more_body else None)

    # --- what arrives ---------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self in self._idle and self._timer is None:
            self._allow(HEAD_S)
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head += len(data)
            if self._head > MAX_HEAD_BYTES:  # of a line that has no end
                self.send_400_response(str(self._refuse(431, HEAD_TOO_LARGE)))

    def on_message_begin(self) -> None:
        """See httptools."""
        super().on_message_begin()
        self._in_head, self._head = True, 0

    def on_url(self, url: bytes) -> None:
        """See httptools."""
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        self._grow(len(name) + len(value))
        super().on_header(name, value)

    def _grow(self, size: int) -> None:
        self._head += size
        if self._head > MAX_HEAD_BYTES or len(self.headers) >= MAX_HEADERS:
            raise self._refuse(431, HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._in_head = False
        if len(self.pipeline) >= MAX_PIPELINED:
            raise self._refuse(400, f"At most {MAX_PIPELINED} requests are taken before the first is answered.")
        self._step = self._body = self._late = self._chunks = 0
        self._come_last()
        self._allow(STEP_S)
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """See httptools."""
        self._chunks += 1
        if self._chunks > FREE_CHUNKS + self._body // CHUNK_BYTES:
            raise self._refuse(400, f"The body comes in pieces of less than {CHUNK_BYTES} bytes; send larger ones.")

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._body += len(body)
        if self._body >= self._step + STEP_BYTES:
            self._step = self._body
            self._come_last()
            self._allow(STEP_S)
        if self.cycle.response_complete:
            self._late += len(body)
            if self._late > LATE_BYTES:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        self._allow(None)
        if not self.cycle.response_complete:  # else it may send another
            self._idle.pop(self, None)
        super().on_message_complete()

    # --- refusals -------------------------------------------------------------------------------------------

    def _refuse(self, status: int, detail: str) -> Exception:
        self._refused, self._detail = status, detail
        return ValueError(detail)

    def send_400_response(self, msg: str) -> None:
        """See HttpToolsProtocol: a problem document, as for every other error. An answer that has begun is cut off."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            return self.transport.abort()
        title = HTTPStatus(self._refused).phrase
        problem = {"type": "about:blank", "title": title, "status": self._refused, "detail": self._detail or msg}
        body = json.dumps(problem).encode()
        head = f"HTTP/1.1 {self._refused} {title}\r\ncontent-type: application/problem+json\r\n"
        head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()
