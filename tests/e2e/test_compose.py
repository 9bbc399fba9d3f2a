"""The fleet of docker-compose.yml without Docker: its commands in its order, a data folder for each part."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from core.ledger.files.s3 import S3Storage
from tests.conftest import Broker
from tests.e2e.conftest import eventually, specification, write_reviews
from tests.ledger.test_storage import everything
from topwork import Client

ROOT = Path(__file__).parents[2]


class Composed:
    """The parts that we build, as processes of this machine."""

    def __init__(self, folder: Path, env_file: dict[str, str]) -> None:
        self.services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        self.folder, self.env_file = folder, env_file
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = str(probe.getsockname()[1])

    def environment(self, name: str) -> dict[str, str]:
        """Of the compose file, its defaults replaced by those of the .env file."""
        given = {key: value for key, value in os.environ.items() if not key.startswith(("TOPWORK_", "AWS_"))}
        named = {
            key: re.sub(r"\$\{(\w+):-(.*)\}", lambda found: self.env_file.get(found[1], found[2]), value)
            for key, value in self.services[name]["environment"].items()
        }
        native = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TOPWORK_DATA_DIR": str(self.folder / name)}
        return given | self.env_file | named | native

    def command(self, words: list[str]) -> list[str]:
        """The words, on loopback and a port that is free."""
        program, *rest = [word.replace("8000", self.port).replace("0.0.0.0", "127.0.0.1") for word in words]
        return [str(Path(sys.executable).with_name(program)), *rest]

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start a part; it may go on when its health check says so, or when it has ended, for one that does."""
        with (self.folder / f"{name}.log").open("wb") as log:
            command = self.command(self.services[name]["command"])
            process = subprocess.Popen(command, cwd=ROOT, env=self.environment(name), stdout=log, stderr=log)
        self.processes[name] = process
        return process

    def healthy(self, name: str) -> bool:
        """What the health check says."""
        assert self.processes[name].poll() is None, (self.folder / f"{name}.log").read_text()
        test = self.command(self.services[name]["healthcheck"]["test"][1:])
        done = subprocess.run(test, cwd=ROOT, env=self.environment(name), capture_output=True, check=False)
        return done.returncode == 0

    def topwork(self, *words: str) -> str:
        """Run a command where the API is."""
        command, environment = [sys.executable, "-m", "cli", *words], self.environment("api")
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    def end(self) -> None:
        """Kill what still runs."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def fleet(empty_database_url: str, broker: Broker, s3_url: str, tmp_path: Path, tiny_model: Path) -> Iterator[Composed]:
    env_file = {
        **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
        "TOPWORK_DATABASE_URL": empty_database_url,
        "TOPWORK_BROKER_URL": broker.url,
        "TOPWORK_STORAGE_URL": s3_url,
        "TOPWORK_DOWNLOADS": "redirect",
    }
    for part in ("api", "worker"):
        (tmp_path / part / "models").mkdir(parents=True)
        (tmp_path / part / "models" / "tiny").symlink_to(tiny_model)
    fleet = Composed(tmp_path, env_file)
    yield fleet
    fleet.end()


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_job_goes_through_a_fleet_that_shares_nothing_but_database_broker_and_s3(
    fleet: Composed, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fleet.start("migrate").wait(240) == 0
    for part in ("api", "relay", "worker"):
        fleet.start(part)
    for part in ("api", "relay", "worker"):
        eventually(lambda part=part: fleet.healthy(part), f"{part} is healthy")
    key = fleet.topwork("keys", "create")
    monkeypatch.setenv("TOPWORK_KEY", key)
    with Client(f"http://127.0.0.1:{fleet.port}") as client:
        reviews = write_reviews(tmp_path / "reviews.csv", 200, 1)
        job = client.jobs.submit(specification(task={"split": {"train": 60, "dev": 30}}), data=reviews)
        assert client.jobs.wait(job, timeout=600).attempt == 1
        files = client.jobs.download(job, tmp_path / "pruned")  # which checks every sha256
        first = client.jobs.files(job)[0].href
    assert {"model.safetensors", "report.json"} <= files.keys()
    assert set(files.values()) <= set(everything(S3Storage(s3_url)))
    assert not list(tmp_path.glob("*/blobs"))
    unfollowed = httpx.get(f"http://127.0.0.1:{fleet.port}{first}", headers={"Authorization": f"Bearer {key}"})
    assert unfollowed.status_code == 307 and unfollowed.headers["location"].startswith(os.environ["AWS_ENDPOINT_URL"])
    for part in ("worker", "relay", "api"):
        fleet.processes[part].terminate()
        fleet.processes[part].wait(240)
