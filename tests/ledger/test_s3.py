"""What only S3 has: uploads in parts, broken lines, refusals, limits in time and memory."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from botocore.config import Config

from core.ledger.files import s3
from core.ledger.files.s3 import S3Storage
from core.ledger.files.storage import StorageAwayError
from tests.ledger.test_storage import everything, put

SMALLEST_PART = 5 * 2**20  # that S3 takes


@pytest.fixture
def storage(s3_url: str) -> S3Storage:
    return S3Storage(s3_url)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", SMALLEST_PART)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("size", [SMALLEST_PART - 1, SMALLEST_PART, SMALLEST_PART + 1, 2 * SMALLEST_PART])
def test_a_file_of_several_parts_is_the_same_file(storage: S3Storage, tmp_path: Path, size: int) -> None:
    sha256 = put(storage, tmp_path, os.urandom(size))
    storage.fetch(sha256, tmp_path / "copy")
    assert hashlib.sha256((tmp_path / "copy").read_bytes()).hexdigest() == sha256
    assert everything(storage) == [sha256]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("size", [100, SMALLEST_PART + 1])
def test_a_file_that_changes_while_it_is_stored_is_not_stored(
    storage: S3Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    source, digest = tmp_path / "source", hashlib.file_digest
    source.write_bytes(bytes(size))

    def write_after(*arguments: Any) -> Any:
        first = digest(*arguments)
        with source.open("r+b") as file:
            file.write(b"1")
        return first

    monkeypatch.setattr(hashlib, "file_digest", write_after)
    with pytest.raises(OSError, match="changed"):
        storage.put(source)
    assert everything(storage) == []


def test_parts_of_an_upload_that_was_killed_are_swept(storage: S3Storage, tmp_path: Path) -> None:
    kept = put(storage, tmp_path, b"kept")
    storage._s3.create_multipart_upload(**storage._at("0" * 64))  # which the server dates to 2010
    assert len(everything(storage)) == 2
    storage.sweep(lambda names: set(names), older_than_s=3600)
    assert everything(storage) == [kept]


def test_a_sweep_leaves_what_is_not_ours(storage: S3Storage, s3_url: str, tmp_path: Path) -> None:
    others = S3Storage(s3_url.removesuffix("/work"))
    for one in (storage, others):
        put(one, tmp_path, b"content")
    storage._s3.put_object(Bucket=storage.bucket, Key=f"{storage.prefix}notes.txt", Body=b"")
    storage._s3.create_multipart_upload(**storage._at("0" * 64))
    assert others.sweep(lambda _names: set(), older_than_s=-60) == 1
    assert len(everything(storage)) == 3


def test_neither_way_is_a_whole_file_in_memory(storage: S3Storage, s3_url: str, tmp_path: Path) -> None:
    """In a process of its own: here, the server would count, too."""
    script = f"""
import pathlib, resource
from core.ledger.files.s3 import S3Storage
storage, big, copy = S3Storage("{s3_url}"), pathlib.Path("{tmp_path}/big"), pathlib.Path("{tmp_path}/copy")
big.write_bytes(b"small")
storage.fetch(storage.put(big)[0], copy)
with big.open("r+b") as file:
    file.truncate(96 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
storage.fetch(storage.put(big)[0], copy)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 2**10)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (tmp_path / "copy").stat().st_size == 96 * 2**20
    assert int(done.stdout) < 60


def test_a_bucket_that_is_not_there_is_no_missing_file(storage: S3Storage) -> None:
    with pytest.raises(FileNotFoundError):
        storage.open("0" * 64)
    assert not storage._is_older("0" * 64, datetime.now(UTC))
    storage.bucket = "no-such-bucket"
    for ask in (storage.open, lambda name: storage._is_older(name, datetime.now(UTC))):
        with pytest.raises(StorageAwayError, match="bucket does not exist"):
            ask("0" * 64)


class Line:
    """Goes between a client and a server, and breaks every connection after so many bytes of answers."""

    def __init__(self, server: str, breaks_after: int) -> None:
        at = urlsplit(server)
        self.server, self.breaks_after, self.connections = (at.hostname, at.port), breaks_after, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(self.server)
            for ends in ((client, server, 2**40), (server, client, self.breaks_after)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, most: int) -> None:
        with suppress(OSError):
            while most and (data := source.recv(min(most, 2**16))):
                target.sendall(data)
                most -= len(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.fixture
def line(s3_server: str, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], tuple[Line, Any]]]:
    lines = []

    def through(breaks_after: int) -> tuple[Line, S3Storage]:
        line = Line(s3_server, breaks_after)
        lines.append(line)
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
        return line, S3Storage(s3_url)

    yield through
    for line in lines:
        line.listener.close()


def test_a_file_comes_whole_over_a_line_that_breaks(storage: S3Storage, tmp_path: Path, line: Any) -> None:
    sha256 = put(storage, tmp_path, os.urandom(5 * 2**20))
    broken, over = line(2**20)
    over.fetch(sha256, tmp_path / "copy")
    assert broken.connections >= 6


def test_a_line_that_brings_nothing_is_given_up(storage: S3Storage, tmp_path: Path, line: Any) -> None:
    sha256 = put(storage, tmp_path, b"content")
    dead, over = line(0)
    with pytest.raises(StorageAwayError, match="cannot be reached"):
        over.open(sha256)
    assert dead.connections == s3.TRIES


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("size", [100, SMALLEST_PART + 1])
def test_all_that_is_sent_carries_its_sha256_for_the_server_to_check(
    s3_server: str, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    checked = []

    class Checks(Quiet):
        """Passes what comes on to the server of the tests, which checks nothing."""

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.command == "PUT":
                checked.append(self.headers["x-amz-checksum-sha256"] == s3._base64(body))
            answer = httpx.request(self.command, s3_server + self.path, content=body, headers=dict(self.headers))
            self.send_response(answer.status_code)
            for name in ("ETag", "Content-Length"):
                self.send_header(name, answer.headers.get(name, ""))
            self.end_headers()
            self.wfile.write(answer.content)

        do_PUT = do_POST = _pass_on

    with serving(Checks) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        put(S3Storage(s3_url), tmp_path, os.urandom(size))
    assert checked == [True] * (1 if size == 100 else 2)


def test_a_server_that_never_sends_what_it_announces_is_given_up(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Announces(Quiet):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "10")
            self.end_headers()

        do_GET = do_HEAD

    with serving(Announces) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with S3Storage(s3_url).open("0" * 64) as data, pytest.raises(StorageAwayError, match="broke off"):
            data.read()


def test_a_server_that_never_answers_is_given_up(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert s3.CONFIG.connect_timeout + s3.CONFIG.read_timeout < 30
    monkeypatch.setattr(s3, "CONFIG", s3.CONFIG.merge(Config(read_timeout=0.2)))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{mute.getsockname()[1]}")
        with pytest.raises(StorageAwayError, match="ReadTimeoutError"):
            put(S3Storage(s3_url), tmp_path, b"content")


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("InvalidAccessKeyId", 403, "credentials"),
        ("AccessDenied", 403, "credentials"),
        ("QuotaExceeded", 400, "QuotaExceeded"),
        ("NoSuchBucket", 404, "bucket does not exist"),
        ("InternalError", 500, "InternalError"),
    ],
)
def test_what_the_storage_refuses_is_told_without_the_inside(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, status: int, said: str
) -> None:
    class Refuses(Quiet):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = f"<Error><Code>{code}</Code><Message>key AKIATEST is secret</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Refuses) as url, pytest.raises(StorageAwayError, match=said) as refused:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        put(S3Storage(s3_url), tmp_path, b"content")
    assert "AKIATEST" not in str(refused.value) and "127.0.0.1" not in str(refused.value)
