"""One attempt under its supervisor, with a real child process that misbehaves as told."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from core.ledger.database import Database
from core.ledger.files.storage import StorageAwayError
from core.ledger.jobs import claims, queries
from core.ledger.settings import Settings
from tests.worker.conftest import House
from tests.worker.supervised import claim, running
from worker import app, models, supervise
from worker.app import Rest


def test_a_job_succeeds_with_its_files_metrics_and_events(house: House) -> None:
    job_id = house.new_job()
    claim(house, job_id).run()
    job = house.job(job_id)
    assert (job.status, job.error, job.metrics) == ("succeeded", None, {"steps": 3, "attempt": 1})
    assert job.stage == "teach" and job.progress["step"] == 3
    with house.database.read() as session:
        files = {file.path: file for file in queries.files(session, job_id)}
        events = [event.type for event in queries.events(session, job_id, 0, 100)]
    assert list(files) == ["model.safetensors", "sub/report.json"]  # a link that leads elsewhere is no output
    weights = files["model.safetensors"]
    assert (weights.sha256, weights.size_bytes) == (hashlib.sha256(b"weights").hexdigest(), 7)
    with house.storage.open(weights.sha256) as data:
        assert data.read() == b"weights"
    assert events[:3] == ["status", "status", "stage"] and events[-1] == "status" and "progress" in events
    assert not (house.settings.work_dir / job_id).exists()


def test_the_child_sees_no_secrets_and_no_settings(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOPWORK_DATABASE_URL", "TOPWORK_BROKER_URL", "TOPWORK_STORAGE_URL", "TOPWORK_KEY", "PGPASSWORD"):
        monkeypatch.setenv(name, "s3cret")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "HTTPS_PROXY", "WHATEVER_COMES"):
        monkeypatch.setenv(name, "s3cret")
    job_id = house.new_job()
    claim(house, job_id).run()
    environment = json.loads(house.starts(job_id)[0].read_text())
    assert "s3cret" not in json.dumps(environment) and not [name for name in environment if "TOPWORK" in name]
    assert environment["HF_HUB_OFFLINE"] == "1" and environment["PATH"] == os.environ["PATH"]


def test_a_job_sees_the_gpus_that_it_was_given(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setenv("NCCL_P2P_DISABLE", "1")
    for gpus, seen, processes in ((["GPU-2", "GPU-3"], "GPU-2,GPU-3", 2), ([], "0,1,2,3", 1)):
        job_id = house.new_job(resources={"gpus": processes})
        claim(house, job_id, gpus=gpus).run()
        environment = json.loads(house.starts(job_id)[0].read_text())
        assert (environment["CUDA_VISIBLE_DEVICES"], environment["processes"]) == (seen, processes)
        assert environment["NCCL_P2P_DISABLE"] == "1"


def test_a_fault_of_the_request_fails_the_job_at_once(house: House) -> None:
    job_id = house.new_job("spec error")
    claim(house, job_id).run()
    job = house.job(job_id)
    assert (job.status, job.attempt) == ("failed", 1)
    assert job.error == {"code": "invalid", "field": "/budget/params", "message": "out of reach"}


def test_a_deleted_data_set_and_an_unknown_model_name_their_field(house: House) -> None:
    gone = f"ds_{'f' * 32}"
    for changes, field in (
        ({"task": {"data": {"dataset": gone}}}, "/task/data/dataset"),
        ({"model": "unknown"}, "/model"),
    ):
        job_id = house.new_job(**changes)
        claim(house, job_id).run()
        error = house.job(job_id).error
        assert error is not None and error["field"] == field and house.job(job_id).status == "failed"
        assert not house.starts(job_id)


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("crash", "its process exited with code 1: RuntimeError: no such file: …"),
        ("killed", "its process was killed by SIGKILL (out of memory?)"),
        ("exit quietly", "its process exited with code 0"),
        ("shared 1", "its process exited with code 1: [rank1]: RuntimeError: CUDA out of memory"),
        ("shared -9", "one of its processes was killed by SIGKILL (out of memory?)"),
    ],
)
def test_a_child_that_dies_is_tried_again_up_to_the_cap(house: House, do: str, reason: str) -> None:
    job_id = house.new_job(do, max_attempts=2)
    claim(house, job_id).run()
    assert house.job(job_id).status == "queued"
    claim(house, job_id).run()
    job = house.job(job_id)
    assert job.status == "failed" and job.error is not None and job.error["code"] == "attempts_exhausted"
    assert reason in job.error["message"] and str(house.settings.data_dir) not in job.error["message"]
    assert [outcome for outcome, _ in house.outcomes(job_id)] == ["lost", "failed"]


def test_the_next_attempt_goes_on_where_the_last_one_saved(house: House) -> None:
    job_id = house.new_job("crash once", steps=4)
    claim(house, job_id).run()
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"
    assert house.notes(job_id) == ["starting at step 0", "starting at step 2"]


class Unsteady(Database):
    """A database that can be away."""

    away = False

    @contextmanager
    def begin(self) -> Any:
        if self.away:
            raise OperationalError("BEGIN", {}, Exception("the server closed the connection"))
        with super().begin() as session:
            yield session


def test_a_database_that_is_away_for_a_while_costs_nothing(house: House, database_url: str) -> None:
    job_id = house.new_job(steps=15)
    database = Unsteady(database_url)
    with running(claim(house, job_id, database=database)):
        house.wait(lambda: house.job(job_id).progress.get("step", 0) >= 3)
        database.away = True
        time.sleep(1.0)
        database.away = False
    job = house.job(job_id)
    assert (job.status, job.attempt) == ("succeeded", 1)
    assert job.progress["step"] == 15
    database.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_connections_that_the_server_cuts_cost_nothing(house: House, postgresql: str) -> None:
    job_id = house.new_job(steps=15)
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname LIKE 'test_%'"
    )
    with running(claim(house, job_id)), psycopg.connect(postgresql.replace("+psycopg", ""), autocommit=True) as server:
        for _ in range(8):
            server.execute(cut)
            time.sleep(0.2)
    job = house.job(job_id)
    assert (job.status, job.attempt, job.progress.get("step")) == ("succeeded", 1, 15)


def test_a_job_keeps_to_the_commit_that_it_began_with(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def resolve(name: str, settings: Settings) -> models.Resolved:
        asked.append(name)
        return models.Resolved(settings.models_dir / "tiny", "owner/name", name.partition("@")[2] or f"c{len(asked)}")

    monkeypatch.setattr(models, "resolve", resolve)
    job_id = house.new_job("crash late", steps=4, model="owner/name")
    for _ in range(2):
        claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded" and asked == ["owner/name", "owner/name@c1"]


@pytest.mark.field("3. Under attack", "a job that crashes", "rests alone; the worker takes others")
def test_a_job_whose_process_died_rests_alone_and_a_worker_whose_machine_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("worker.app.time.monotonic", lambda: now[0])
    rest = Rest()

    def rests(still: Callable[[], object], *attempts: tuple[str, Literal["well", "job", "machine"]]) -> list[float]:
        found = []
        for attempt in attempts:
            rest.after(*attempt)
            began = now[0]
            while still():
                now[0] += 0.5
            found.append(now[0] - began)
        return found

    def worker() -> bool:
        return not rest.over()

    assert rests(worker, *((name, "job") for name in "abcdefgh")) == [0] * 8  # others are taken at once
    assert rest.jobs() == {*"abcdefgh"} == rest.resting()
    rests(rest.resting)
    assert rests(rest.resting, *[("a", "job")] * 3) == [2, 4, 8]
    assert rests(rest.resting, ("a", "well"), ("a", "job")) == [0, 1]
    assert rests(worker, ("a", "machine"), ("b", "machine"), ("c", "well"), ("d", "machine")) == [1, 2, 0, 1]
    assert rests(worker, *[("a", "machine")] * 8)[-1] == 60
    for i in range(2000):
        rest.after(str(i), "job")
    assert len(rest.jobs()) <= 1001


def test_a_resting_job_is_left_alone(house: House) -> None:
    resting = house.new_job()
    with house.database.begin() as session:
        assert claims.claim_next(session, "w", 15, without={resting}) is None
        assert claims.claim_next(session, "w", 15, without={"job_other"}) is not None


def test_a_machine_is_well_where_a_process_can_compute_and_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(app, "settings", Settings(data_dir=tmp_path))
    assert app.is_well(())
    for code in ("raise OSError(28, 'No space left on device')", "import os; os.kill(os.getpid(), 9)"):
        monkeypatch.setattr(app, "PROBE", (sys.executable, "-c", code))
        assert not app.is_well(())


def test_a_supervisor_that_fails_gives_its_job_back_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    job_id = house.new_job()
    supervisor = claim(house, job_id)
    with monkeypatch.context() as patched:
        patched.setattr(supervise.threading.Thread, "start", full)
        assert not supervisor.run()
    assert (house.job(job_id).status, house.outcomes(job_id)[0][0]) == ("queued", "lost")
    assert claim(house, job_id).run()


def test_temporary_files_of_the_child_go_with_its_attempt(house: House) -> None:
    job_id = house.new_job()
    claim(house, job_id).run()
    environment = json.loads(house.starts(job_id)[0].read_text())
    assert Path(environment["TMPDIR"]) == house.settings.work_dir.resolve() / job_id / "1" / "tmp"
    assert not Path(environment["TMPDIR"]).exists()


@pytest.mark.field("2. Models in, checkpoints out", "a hub that is away", "the slot is given back, `waiting` says why")
def test_a_hub_that_is_away_keeps_no_worker(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job goes back into the queue, which says why, until the hub is back."""
    away = True

    def resolve(name: str, settings: Settings) -> models.Resolved:
        if away:
            raise StorageAwayError("the hub answers 503")
        return models.Resolved(settings.models_dir / "tiny", "owner/name", "c1")

    monkeypatch.setattr(models, "resolve", resolve)
    job_id = house.new_job(model="owner/name")
    assert claim(house, job_id).run()  # the worker is well
    assert (house.job(job_id).status, house.job(job_id).progress["waiting"]) == ("queued", "the hub answers 503")
    with house.database.begin() as session:
        assert claims.claim_next(session, "other", 60) is None
    away = False
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"


def test_a_hub_that_stays_away_is_not_waited_for_for_ever(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(name: str, settings: Settings) -> models.Resolved:
        raise StorageAwayError("the hub cannot be reached (ConnectError)")

    monkeypatch.setattr(models, "resolve", resolve)
    monkeypatch.setattr(supervise, "HUB_S", 0.0)
    job_id = house.new_job(model="owner/name")
    claim(house, job_id).run()
    error = house.job(job_id).error
    assert error is not None and error["code"] == "hub_away"
    assert "cannot be reached (ConnectError); retry the job later" in error["message"]
