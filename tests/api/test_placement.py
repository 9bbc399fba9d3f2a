"""A job says what it needs of a worker, and is told why it waits."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient

from core.ledger import workers
from core.ledger.database import Database
from core.ledger.jobs import claims
from core.ledger.settings import Settings

CPU = {"type": "cpu", "gpus": [], "cpus": 2, "memory_bytes": 2**34}
GPU = {**CPU, "type": "cuda", "gpus": [{"id": "GPU-1", "name": "NVIDIA H200", "memory_bytes": 2**37}]}


def test_why_a_job_waits_is_shown_until_it_runs(
    client: TestClient, payload: dict[str, Any], database: Database
) -> None:
    answer = client.post("/v1/jobs", json=payload | {"resources": {"device": "cuda"}})
    assert answer.json()["waiting"] == "no worker is alive"
    job = answer.headers["location"]
    with database.begin() as session:
        workers.seen(session, "host:1", 1, CPU)
    first = client.get(job)
    assert first.json()["waiting"] == "no GPU worker is alive"
    assert client.get(job, headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    with database.begin() as session:
        workers.seen(session, "host:2", 1, GPU)
        other = claims.claim_next(session, "host:2", 30)
        assert other is not None
    running = client.get(job)
    assert (running.json()["status"], running.json()["waiting"]) == ("running", None)
    client.post("/v1/jobs", json=payload | {"resources": {"gpus": 1}})
    (second, _) = client.get("/v1/jobs").json()["items"]
    assert second["waiting"] == "every worker that fits is busy"


def test_a_new_reason_is_an_answer_at_once(client: TestClient, payload: dict[str, Any], database: Database) -> None:
    job = client.post("/v1/jobs", json=payload).headers["location"]
    tag = client.get(job).headers["etag"]
    with database.begin() as session:
        workers.seen(session, "host:1", 1, CPU)
    answer = client.get(job, params={"wait": 60}, headers={"If-None-Match": tag})
    assert answer.status_code == 200 and "free" in answer.json()["waiting"]


def test_a_long_poll_hears_of_a_new_reason(
    client: TestClient, payload: dict[str, Any], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.routes.jobs.WAITING_S", 0.2)
    answer = client.post("/v1/jobs", json=payload)

    def arrive() -> None:
        with database.begin() as session:
            workers.seen(session, "host:1", 1, CPU)

    threading.Timer(0.5, arrive).start()
    told = client.get(answer.headers["location"], params={"wait": 20})
    assert told.elapsed.total_seconds() < 10 and "free" in told.json()["waiting"]


def test_an_estimate_is_for_a_worker_that_fits(client: TestClient, payload: dict[str, Any], database: Database) -> None:
    with database.begin() as session:
        workers.seen(session, "host:1", 1, CPU)
        workers.seen(session, "host:2", 1, GPU)
    for device in ("cpu", "cuda"):
        asked = payload | {"resources": {"device": device}}
        assert client.post("/v1/jobs:validate", json=asked).json()["estimate"]["device"] == device


def test_a_tenant_at_its_limit_is_told_so(
    client: TestClient, payload: dict[str, Any], database: Database, settings: Settings
) -> None:
    vars(settings)["max_running"] = 1
    client.post("/v1/jobs", json=payload)
    with database.begin() as session:
        workers.seen(session, "host:1", 4, CPU)
        assert claims.claim_next(session, "host:1", 30) is not None
    assert client.post("/v1/jobs", json=payload).json()["waiting"] == "1 of your jobs run, as many as may at once"


def test_validate_warns_where_no_living_worker_fits(
    client: TestClient, payload: dict[str, Any], database: Database
) -> None:
    def warnings(**changes: Any) -> str:
        return " ".join(client.post("/v1/jobs:validate", json=payload | changes).json()["warnings"])

    assert "no worker is alive: the job would wait for one" in warnings()
    with database.begin() as session:
        workers.seen(session, "host:1", 1, CPU)
    assert "would wait" not in warnings()
    assert "no GPU worker is alive" in warnings(resources={"gpus": 1})
    assert "no GPU worker is alive" in warnings(budget={"latency_ms": 5.0, "device": "cuda"})
    with database.begin() as session:
        workers.seen(session, "host:2", 1, GPU)
    assert "no worker that is alive has 2 GPUs" in warnings(resources={"gpus": 2})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"resources": {"device": "cpu", "gpus": 2}}, "leave 'gpus' out"),
        ({"resources": {"memory_gb": 1e300}}, "1000000"),
        ({"resources": {"device": "cpu"}, "budget": {"latency_ms": 5.0, "device": "cuda"}}, "leave one 'device' out"),
        ({"resources": {"gpus": 8}, "train": {"batch_size": 4}}, "has 4 rows"),
        ({"resources": {"memory_gb": 0}}, "greater than 0"),
    ],
)
def test_what_no_worker_could_have_is_refused(
    changes: dict[str, Any], says: str, client: TestClient, payload: dict[str, Any]
) -> None:
    answer = client.post("/v1/jobs", json=payload | changes)
    assert answer.status_code == 422 and says in str(answer.json()["errors"])
