"""Nothing lost: a real job that is killed in every stage, and a real server under many requests at once."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from core.ledger import datasets
from core.ledger.database import Database
from core.ledger.jobs import queries
from core.ledger.settings import Settings
from core.ledger.tables import DEFAULT_TENANT, File
from tests.conftest import Broker
from tests.e2e.conftest import Server, command_line, eventually, specification, write_reviews
from tests.e2e.doomed_child import STAGES
from tests.worker.conftest import Fleet, House


@pytest.fixture
def house(database: Database, database_url: str, tmp_path: Path, tiny_model: Path) -> House:
    """A data folder with the tiny model."""
    settings = Settings(data_dir=tmp_path / "data", database_url=database_url, lease_s=6, heartbeat_s=0.3)
    settings.data_dir.mkdir()
    house = House(settings, database)
    shutil.rmtree(settings.models_dir / "tiny")
    (settings.models_dir / "tiny").symlink_to(tiny_model)
    return house


def upload(house: House, rows: int, seed: int) -> str:
    path = write_reviews(house.settings.data_dir / "rows.csv", rows, seed)
    dataset = datasets.ingest([path], "rows.csv", house.storage, house.settings, DEFAULT_TENANT)
    with house.database.begin() as session:
        session.add(dataset)
    return dataset.id


def outputs(house: House, job_id: str) -> dict[str, File]:
    with house.database.read() as session:
        return {file.path: file for file in queries.files(session, job_id)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_job_that_is_killed_in_every_stage_ends_with_the_files_of_one_that_was_not(
    house: House, broker: Broker
) -> None:
    """Seven kills with SIGKILL, of the worker and of the child in turn."""
    job = {
        "task": {"data": {"dataset": upload(house, 250, 1)}, "split": {"train": 80, "dev": 40}},
        "sources": [{"data": {"dataset": upload(house, 200, 2)}, "label": "label"}],
        "budget": {"params": 0.4},
        "method": {"name": "l0"},
        "train": {"steps": {"teach": 100, "prune": 40, "recover": 300}, "max_length": 32, "batch_size": 16},
    }
    doomed = house.new_job(**job, labels={"doomed": str(house.traces)}, max_attempts=len(STAGES) + 1)
    spared = house.new_job(**job, labels={"doomed": ""})
    fleet = Fleet(house.settings, broker)
    try:
        fleet.start("relay")
        worker = fleet.start("tests.e2e.doomed_worker")

        def over() -> bool:
            nonlocal worker
            if worker.poll() is not None:
                worker = fleet.start("tests.e2e.doomed_worker")
            return {house.job(doomed).status, house.job(spared).status} <= {"succeeded", "failed"}

        house.wait(over, 1700)
    finally:
        fleet.end()
    first, again = house.job(spared), house.job(doomed)
    assert (first.status, first.attempt) == ("succeeded", 1), first.error
    assert (again.status, again.attempt) == ("succeeded", len(STAGES) + 1), again.error
    assert sorted(path.name for path in house.traces.iterdir()) == [f"{i}-{s}" for i, s in enumerate(STAGES, 1)]
    assert first.metrics is not None and again.metrics is not None
    assert len(first.metrics["transfer"]["auto"]["trials"]) > 1
    for part in ("structure", "transfer", "curves", "budget"):
        assert again.metrics[part] == first.metrics[part]
    pruned = [job.metrics["results"]["pruned"]["test"] for job in (first, again)]  # type: ignore[index]
    assert pruned[0] == pruned[1]
    for name in ("model.safetensors", "test.jsonl"):
        assert outputs(house, spared)[name].sha256 == outputs(house, doomed)[name].sha256


@pytest.fixture(scope="module")
def survivor(server: Server, submitted: Callable[..., str]) -> tuple[dict[str, Any], list[str]]:
    """A job whose API and relay are killed in every stage, and the stages; the child is held meanwhile."""
    job_id, seen = submitted(specification()), list[str]()
    while (job := server.job(job_id))["status"] in ("queued", "running"):
        if job["stage"] is not None and job["stage"] not in seen:
            seen.append(job["stage"])
            processes = {pid: command_line(pid) for pid in server.descendants()}
            [child] = (pid for pid, line in processes.items() if "-m worker.child" in line)
            os.kill(child, signal.SIGSTOP)
            victims = [pid for pid, line in processes.items() if "-m api" in line or "-m worker.relay" in line]
            assert len(victims) == 2
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            eventually(server.ready, "ready again")
            os.kill(child, signal.SIGCONT)
        time.sleep(0.01)
    return job, seen


@pytest.mark.slow
def test_api_and_relay_may_be_killed_in_every_stage(survivor: tuple[dict[str, Any], list[str]]) -> None:
    job, seen = survivor
    assert (job["status"], job["attempt"]) == ("succeeded", 1)
    assert seen == [stage for stage in STAGES if stage != "auto"]


def test_one_request_sent_fifty_times_at_once_is_one_job(server: Server, submitted: Callable[..., str]) -> None:
    body = server.job(submitted(specification()))["spec"]
    ids = lambda: {job["id"] for job in server.http.get("/v1/jobs", params={"limit": 100}).json()["items"]}  # noqa: E731
    before, key = ids(), {"Idempotency-Key": "sent-often"}
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: server.http.post("/v1/jobs", json=body, headers=key), range(50)))
    assert {answer.status_code for answer in answers} == {202}
    (job_id,) = {answer.json()["id"] for answer in answers}
    assert ids() - before == {job_id}
    server.http.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()


@pytest.mark.slow
def test_a_download_cut_a_hundred_times_is_whole(server: Server, survivor: tuple[dict[str, Any], list[str]]) -> None:
    job_id = survivor[0]["id"]
    files = {file["path"]: file for file in server.http.get(f"/v1/jobs/{job_id}/files").json()["items"]}
    file, rng, got, cuts = files["model.safetensors"], random.Random(0), b"", 0
    url = f"/v1/jobs/{job_id}/files/model.safetensors"
    most = file["size_bytes"] // 60
    while len(got) < file["size_bytes"]:
        headers = {"Range": f"bytes={len(got)}-", "If-Range": f'"{file["sha256"]}"'}
        with server.http.stream("GET", url, headers=headers) as answer:
            assert answer.status_code == 206
            wanted = rng.randrange(1, most)
            for chunk in answer.iter_bytes(wanted):
                got += chunk
                break  # the connection is closed in the middle of the body
        cuts += 1
    assert cuts >= 100
    assert hashlib.sha256(got).hexdigest() == file["sha256"]
