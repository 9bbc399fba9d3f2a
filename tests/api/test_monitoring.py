"""Workers and the numbers for Prometheus: they agree with the ledger, whichever process is asked."""

from __future__ import annotations

import errno
import json
from tempfile import SpooledTemporaryFile
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from api.main import create_app
from api.routes import models
from core.ledger import tallies, workers
from core.ledger.database import Database
from core.ledger.files.storage import LocalStorage
from core.ledger.jobs import attempts, claims, owner, upkeep
from core.ledger.settings import Settings
from core.ledger.tables import Job, Worker
from tests.api.conftest import one_database, reviews

DEVICE = {"type": "cpu", "cpu": "a CPU", "gpus": [], "cpus": 2, "memory_bytes": 2**33}


def samples(client: TestClient) -> dict[tuple[str, str], float]:
    """(name, labels) -> value."""
    answer = client.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    found = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
    named = [(s.name, {k: v for k, v in s.labels.items() if k != "process"}, s.value) for s in found]
    return {(name, ",".join(f"{k}={v}" for k, v in labels.items())): value for name, labels, value in named}


def test_every_process_says_what_the_ledger_says(
    client: TestClient, settings: Settings, payload: dict[str, Any], database: Database
) -> None:
    done, lost, queued = (client.post("/v1/jobs", json=payload).json()["id"] for _ in range(3))
    with database.begin() as session:
        for job_id in (done, lost):
            claims.claim(session, job_id, "w", 30)
            attempts.report(session, job_id, 1, {"event": "stage", "stage": "teach"})
        attempts.report(session, done, 1, {"event": "stage", "stage": "prune"})
        session.execute(update(Job).where(Job.id == done).values(stage_at=Job.stage_at - 2000))
        attempts.succeed(session, done, 1, {}, {})
        session.execute(update(Job).where(Job.id == lost).values(lease_until=1))
        upkeep.reap(session)
        workers.seen(session, "host:1", 2, DEVICE)
        tallies.compact(session)
        owner.remove(session, "tenant_default", done)  # what it counted stays
    with TestClient(create_app(settings), "http://localhost") as other:
        for one in (client, other):
            found = samples(one)
            assert found["topwork_jobs", "status=queued"] == 2 and found["topwork_jobs", "status=succeeded"] == 0
            assert found["topwork_jobs_finished_total", "outcome=succeeded"] == 1
            assert found["topwork_leases_lost_total", ""] == 1
            assert found["topwork_stage_seconds_count", "stage=teach"] == 2
            assert 2 <= found["topwork_stage_seconds_sum", "stage=prune"] < 1000
            assert (found["topwork_workers", ""], found["topwork_worker_slots", ""]) == (1, 2)
            assert found["topwork_queue_oldest_seconds", ""] > 0
            assert found["topwork_queue_unserved", ""] == 0
        client.get("/nothing/here")
        client.get(f"/v1/jobs/{queued}")
        found = samples(client)
        assert found["topwork_http_requests_total", "method=GET,route=/v1/jobs/{job_id},status=200"] == 1
        assert found["topwork_http_requests_total", "method=,route=,status=404"] == 1
        assert found["topwork_http_requests_total", "method=POST,route=/v1/jobs,status=202"] == 3
        for method in ("BREW", "WHEN"):  # labels that anybody could make up
            assert client.request(method, "/healthz").status_code == 405
        assert samples(client)["topwork_http_requests_total", "method=,route=/healthz,status=405"] == 2


def test_failures_are_counted_by_reason_and_jobs_that_nobody_can_run(
    client: TestClient, payload: dict[str, Any], database: Database
) -> None:
    ids = [client.post("/v1/jobs", json=payload).json()["id"] for _ in range(4)]
    for needs in ({"gpus": 2}, {"gpus": 2}, {"device": "cuda", "memory_gb": 80}, {"memory_gb": 1}):
        client.post("/v1/jobs", json=payload | {"resources": needs})
    with database.begin() as session:
        workers.seen(session, "host:1", 1, DEVICE)
        for job_id in ids:
            claims.claim(session, job_id, "w", 30)
        attempts.fail(session, ids[0], 1, {"code": "invalid", "message": "m"})
        attempts.fail(session, ids[1], 1, {"code": "time_limit", "message": "m"})
        attempts.give_back(session, ids[2], 1, "its process was killed by SIGKILL")
        attempts.release(session, ids[3], 1, "its worker was stopped")
    with database.begin() as session:
        for attempt in (2, 3):
            claims.claim(session, ids[2], "w", 30)
            attempts.give_back(session, ids[2], attempt, "its process was killed by SIGKILL")
    found = samples(client)
    codes = ("invalid", "time_limit", "attempts_exhausted")
    assert [found["topwork_jobs_failed_total", f"code={code}"] for code in codes] == [1, 1, 1]
    assert found["topwork_attempts_ended_total", "cause=broke_off"] == 3
    assert found["topwork_attempts_ended_total", "cause=drained"] == 1
    assert (found["topwork_jobs", "status=queued"], found["topwork_queue_unserved", ""]) == (5, 3)


def test_compacting_at_once_loses_no_count(database: Database) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def work(number: int) -> None:
        with database.begin() as session:
            if number % 4 == 0:
                tallies.compact(session)
            else:
                tallies.add(session, "stage", "teach", ms=10)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(80)))
    with database.read() as session:
        assert tallies.totals(session, "stage") == {"teach": (60, 0.6)}


def test_workers_are_shown_while_they_are_heard_of(
    client: TestClient, payload: dict[str, Any], database: Database
) -> None:
    assert client.get("/v1/workers").json() == {"items": []}
    job_id = client.post("/v1/jobs", json=payload).json()["id"]
    with database.begin() as session:
        workers.seen(session, "host:1", 2, DEVICE)
        claims.claim(session, job_id, "host:1", 30)
        gpu = {**DEVICE, "type": "cuda", "gpus": [{"name": "NVIDIA H200", "memory_bytes": 2**37}]}
        workers.seen(session, "host:2", 1, gpu)
        workers.seen(session, "host:3", 1, DEVICE)
        workers.gone(session, "host:3")
    first, second = client.get("/v1/workers").json()["items"]
    assert (first["name"], first["slots"], first["busy"], first["device"]) == ("host:1", 2, 1, DEVICE)
    assert (second["busy"], second["device"]["gpus"][0]["name"]) == (0, "NVIDIA H200")
    with database.begin() as session:
        session.execute(update(Worker).where(Worker.name == "host:1").values(seen_at=Worker.seen_at - 30_000))
        workers.seen(session, "host:2", 1, DEVICE)
    assert [one["name"] for one in client.get("/v1/workers").json()["items"]] == ["host:2"]
    with database.begin() as session:
        session.execute(update(Worker).where(Worker.name == "host:1").values(seen_at=1))
        workers.seen(session, "host:2", 1, DEVICE)
        assert session.get(Worker, "host:1") is None


def test_each_request_is_a_line_that_quotes_nobody(
    client: TestClient, payload: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    job_id = client.post("/v1/jobs", json=payload, headers={"X-Request-ID": "from-a-proxy.1"}).json()["id"]
    address, bad = f"/v1/jobs/{job_id}/files/a secret", {"X-Request-ID": "a secret"}
    answer = client.get(address, headers=bad)
    client.get("/secret")
    client.get("/healthz")
    written = map(json.loads, capsys.readouterr().err.splitlines())
    lines = [line for line in written if not line["logger"].startswith("httpx")]  # the client's
    accepted, posted, got, missing = lines
    assert accepted["event"] == "accepted" and accepted["job"] == job_id
    assert accepted["request"] == posted["request"] == "from-a-proxy.1"
    assert (posted["method"], posted["route"], posted["status"], posted["level"]) == ("POST", "/v1/jobs", 202, "info")
    assert (got["job"], got["status"]) == (job_id, 404) and got["request"] == answer.headers["x-request-id"]
    assert (missing["route"], missing["status"]) == ("", 404)
    assert "secret" not in str(lines)


def test_what_breaks_is_logged_under_its_request(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_folder: Any) -> None:
        raise RuntimeError("why")

    monkeypatch.setattr(models, "local_models", broken)
    answer = client.get("/v1/models", headers={"X-Request-ID": "from-a-proxy.1"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "from-a-proxy.1")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = [line for line in lines if line.get("request") == "from-a-proxy.1"]
    assert [line["level"] for line in told] == ["error", "error"] and "why" in told[0]["exception"]
    assert told[1]["status"] == 500


def no_room(*_given: Any) -> int:
    """What a full disk says to each write."""
    raise OSError(errno.ENOSPC, "No space left on device")


@one_database
@pytest.mark.parametrize("where", ["the form", "the storage"])
def test_a_full_disk_is_not_the_clients_fault(
    where: str, client: TestClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if where == "the form":
        monkeypatch.setattr(SpooledTemporaryFile, "write", no_room)
    else:
        monkeypatch.setattr(LocalStorage, "put", no_room)
    answer = client.post("/v1/datasets", files={"file": ("a.csv", reviews(30))})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert "disk is full" in answer.json()["detail"] and "No space left" in capsys.readouterr().err
