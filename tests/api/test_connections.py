"""What a client may make the server hold: sockets, heads, time."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from api.http import connections
from core.ledger.database import open_database
from core.ledger.settings import Settings
from tests.api.conftest import WEIGHTS, one_database

FILES, SOCKETS = 256, 400
WITHIN_S = 30.0


def connect(url: str) -> socket.socket:
    return socket.create_connection((str(urlsplit(url).hostname), urlsplit(url).port or 0), timeout=WITHIN_S)


def answer(url: str, *pieces: bytes) -> bytes:
    """What comes back until the server closes the connection."""
    with connect(url) as client:
        with suppress(OSError):  # it has answered, and closed, before the end
            for piece in pieces:
                client.sendall(piece)
        received = b""
        with suppress(ConnectionResetError):
            while chunk := client.recv(2**16):
                received += chunk
        return received


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and log of an API of its own that may open `FILES` files."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(data_dir=tmp_path / "data")
    settings.data_dir.mkdir()
    database = open_database(settings)
    database.migrate()
    database.close()
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "api", "--port", str(port)],
            env={"TOPWORK_DATA_DIR": str(settings.data_dir), "TOPWORK_REQUIRE_KEYS": "false"},
            stdout=out,
            stderr=out,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES)),
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + WITHIN_S
        while not is_well(url):
            assert time.monotonic() < until and process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield url, log
    finally:
        process.kill()
        process.wait()


def is_well(url: str) -> bool:
    connection = HTTPConnection(str(urlsplit(url).netloc), timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


@pytest.mark.field("3. Under attack", "more idle sockets than open files", "the API answers; the log stays small")
def test_more_idle_sockets_than_files_keep_nobody_out_and_fill_no_log(cramped: tuple[str, Path]) -> None:
    url, log = cramped
    with ExitStack() as idle:
        for i in range(SOCKETS):
            client = idle.enter_context(connect(url))
            if i % 2:
                client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        assert all(is_well(url) for _ in range(20))
        assert log.stat().st_size < 2000, log.read_text()
    assert is_well(url)


@pytest.mark.parametrize(
    "before", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"], ids=["alone", "pipelined"]
)
def test_bodies_that_stand_still_make_room(cramped: tuple[str, Path], before: bytes) -> None:
    url, log = cramped
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    with ExitStack() as idle:
        for _ in range(SOCKETS):
            idle.enter_context(connect(url)).sendall(before + head + b"Content-Length: 100\r\n\r\n-")
        assert all(is_well(url) for _ in range(20))
    assert is_well(url)
    assert b'"level": "error"' not in log.read_bytes()


@one_database
def test_a_body_that_comes_on_and_an_answer_on_its_way_make_no_room(
    live: str, files: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "STEP_BYTES", 10)
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    )
    with ExitStack() as clients:
        moving, still, reading = (clients.enter_context(connect(live)) for _ in range(3))
        reading.sendall(
            f"GET {files}/model.safetensors HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        assert reading.recv(1).startswith(b"H")
        for client in (moving, still):
            client.sendall(head)
            assert is_well(live)
        moving.sendall(b" " * 20)
        assert is_well(live)
        monkeypatch.setattr(connections, "max_sockets", lambda: 2)
        newcomer = clients.enter_context(connect(live))
        assert still.recv(1) == b""
        monkeypatch.undo()
        moving.sendall(b" " * 980)
        newcomer.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        for client, status in ((moving, b"422"), (newcomer, b"200")):
            assert client.recv(2**16).startswith(b"HTTP/1.1 " + status)
        assert sum(map(len, iter(lambda: reading.recv(2**20), b""))) > len(WEIGHTS)


@one_database
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\r\n",
        b"GET /healthz HTTP/1.1\r\nHost:",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    ],
)
@pytest.mark.field("3. Under attack", "clients that stop in a head or body", "left after seconds")
def test_a_client_that_says_no_more_is_left(live: str, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    monkeypatch.setattr(connections, "STEP_S", 0.3)
    assert answer(live, said) == b""


@one_database
def test_a_client_that_says_a_little_for_ever_is_left(live: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    with connect(live) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(2**16).startswith(b"HTTP/1.1 200")
        until = time.monotonic() + WITHIN_S
        with pytest.raises(OSError):
            while time.monotonic() < until:
                client.sendall(b"\r\n")
                time.sleep(0.1)


@one_database
def test_a_body_that_comes_slowly_but_surely_arrives(live: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STEP_S", 0.6)
    monkeypatch.setattr(connections, "STEP_BYTES", 10)

    def body() -> Iterator[bytes]:
        for _ in range(5):
            yield b" " * 20
            time.sleep(0.2)
        yield b"{}"

    sent = httpx.post(f"{live}/v1/jobs", content=body(), headers={"Content-Type": "application/json"}, timeout=30)
    assert sent.status_code == 422


@one_database
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /v1/jobs?%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"a=1&" * 100_000), b"431"),
        (b"GET /%s" % (b"a" * 300_000), b"431"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nCookie: %s" % (b"a=1;" * 100_000), b"431"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (b"a: 1\r\n" * 5000), b"431"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n%s: 1\r\n\r\n" % (b"a" * 50_000), b"431"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500, b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    ],
    ids=["query", "path", "cookie", "lines", "name", "pipelined", "http2"],
)
def test_a_head_has_bounds(live: str, head: bytes, status: bytes) -> None:
    received = answer(live, head)
    assert received.startswith(b"HTTP/1.1 " + status), received[:200]
    assert b"application/problem+json" in received
    assert is_well(live)


@one_database
def test_a_body_in_crumbs_is_not_taken(live: str) -> None:
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    received = answer(live, head, b"1\r\n \r\n" * 200_000, b"0\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 400") and b"send larger ones" in received
    sent = answer(live, head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), b"2\r\n{}\r\n0\r\n\r\n")
    assert sent.startswith(b"HTTP/1.1 422")


@one_database
@pytest.mark.field("3. Under attack", "a body that goes on after its answer", "32 MB of it are read, then it ends")
def test_a_body_that_was_answered_is_not_read_for_ever(live: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LATE_BYTES", 2**21)
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    size, piece = 2**26, b" " * 2**16
    with connect(live) as client:
        client.sendall(head % size)
        assert client.recv(2**16).startswith(b"HTTP/1.1 413")
        with pytest.raises(OSError):
            for _ in range(size // len(piece)):
                client.sendall(piece)
    size = 2**20 + 1  # over the limit of a body of JSON; its rest is let pass, and the connection stays
    with connect(live) as client:
        client.sendall(head % size)
        assert client.recv(2**16).startswith(b"HTTP/1.1 413")
        client.sendall(b" " * size + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b"HTTP/1.1 200" in b"".join(iter(lambda: client.recv(2**16), b""))
