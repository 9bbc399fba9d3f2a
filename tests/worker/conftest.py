"""What the worker's tests share: a tiny local model and data set, jobs that the fake child plays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from core.ledger import datasets
from core.ledger.database import Database
from core.ledger.files.storage import LocalStorage
from core.ledger.jobs import owner, queries
from core.ledger.settings import Settings
from core.ledger.tables import DEFAULT_TENANT, Attempt, Job
from core.spec.job import JobSpec
from tests.conftest import Broker
from tests.tiny import CONFIG


class House:
    """A data folder with a model and a data set, and the ledger that knows them."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings, self.database = settings, database
        self.storage = LocalStorage(settings.blobs_dir)
        self.traces = settings.data_dir / "traces"
        self.traces.mkdir()
        model = settings.models_dir / "tiny"
        model.mkdir(parents=True)
        (model / "config.json").write_text(json.dumps(CONFIG))
        (model / "model.safetensors").write_bytes(b"")
        upload = settings.data_dir / "rows.csv"
        upload.write_text("text,label\na,b\n")
        dataset = datasets.ingest([upload], "rows.csv", self.storage, settings, DEFAULT_TENANT)
        with database.begin() as session:
            session.add(dataset)
        self.dataset = dataset.id

    def new_job(self, do: str = "succeed", steps: int = 3, max_attempts: int = 3, **changes: Any) -> str:
        """A job that the fake child plays; returns its id."""
        body = {
            "model": "tiny",
            "task": {"data": {"dataset": self.dataset}},
            "budget": {"params": 0.1},
            "labels": {"do": do, "steps": str(steps), "log": str(self.traces)},
        }
        spec = JobSpec.model_validate(body | changes)
        with self.database.begin() as session:
            return owner.create(session, DEFAULT_TENANT, spec, max_attempts)[0].id

    def job(self, job_id: str) -> Job:
        """The job as it is now."""
        with self.database.read() as session:
            return session.get_one(Job, job_id)

    def cancel(self, job_id: str) -> None:
        """As its owner does."""
        with self.database.begin() as session:
            owner.cancel(session, DEFAULT_TENANT, job_id)

    def outcomes(self, job_id: str) -> list[tuple[str | None, str | None]]:
        """How each attempt ended, and why."""
        with self.database.read() as session:
            query = select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number)
            return [(attempt.outcome, attempt.reason) for attempt in session.scalars(query)]

    def notes(self, job_id: str) -> list[str]:
        """What the child noted."""
        with self.database.read() as session:
            return [e.data["message"] for e in queries.events(session, job_id, 0, 1000) if e.type == "note"]

    def saved_step(self, job_id: str) -> int:
        """Where the next attempt would start."""
        with self.database.read() as session:
            saved = {file.path: file.sha256 for file in queries.files(session, job_id, "state")}
        if "step.json" not in saved:
            return 0
        with self.storage.open(saved["step.json"]) as file:
            return int(json.load(file)["step"])

    def starts(self, job_id: str) -> Sequence[Path]:
        """A file for each start of the child."""
        return sorted(self.traces.glob(f"{job_id}-*"))

    def wait(self, condition: Callable[[], Any], seconds: float = 120) -> None:
        """Until something has happened in another process or thread."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.05)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Quick leases, but no quicker than a busy machine can keep them."""
    return Settings(data_dir=tmp_path / "data", database_url=database_url, lease_s=6, heartbeat_s=0.3)


@pytest.fixture
def house(settings: Settings, database: Database) -> House:
    """The data folder."""
    settings.data_dir.mkdir()
    return House(settings, database)


class Fleet:
    """Processes of the fleet on one data folder, database and broker."""

    def __init__(self, settings: Settings, broker: Broker) -> None:
        self.logs = settings.data_dir
        self.processes: list[subprocess.Popen[bytes]] = []
        self.environment = os.environ | {
            "TOPWORK_DATA_DIR": str(settings.data_dir),
            "TOPWORK_DATABASE_URL": str(settings.database_url),
            "TOPWORK_BROKER_URL": broker.url,
            "TOPWORK_LEASE_S": str(settings.lease_s),
            "TOPWORK_HEARTBEAT_S": str(settings.heartbeat_s),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

    def start(self, what: str, **environment: str) -> subprocess.Popen[bytes]:
        """Run `python -m WHAT`; `worker` and `relay` stand for those with a child that does as it is told."""
        module = {"worker": "tests.worker.fake_worker", "relay": "tests.worker.fake_relay"}.get(what, what)
        with (self.logs / f"{what}-{len(self.processes)}.log").open("wb") as log:
            command = [sys.executable, "-m", module]
            settings = self.environment | environment
            process = subprocess.Popen(command, env=settings, stdout=log, stderr=subprocess.STDOUT)
        self.processes.append(process)
        return process

    def end(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()


@pytest.fixture
def start(house: House, broker: Broker) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start `worker` or `relay` as a process; all are ended after the test."""
    fleet = Fleet(house.settings, broker)
    yield fleet.start
    fleet.end()
