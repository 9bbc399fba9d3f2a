"""What workers have measured of a model's latency: a plan shows it, and what is out of reach is refused at the door."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.planning.catalogue import find
from core.ledger import workers
from core.ledger.database import Database
from core.ledger.jobs import attempts, claims
from core.ledger.settings import Settings
from core.spec.latency import Latency, Point
from core.spec.messages import LatencyMeasured
from tests.api.conftest import MODEL

WORKER = {"type": "cpu", "gpus": [], "cpu": "a CPU", "cpus": 2, "memory_bytes": 2**34}
MEASURED = Latency(
    runtime="onnx",
    device="cpu",
    device_name="a CPU",
    threads=2,
    batch_size=1,
    length=64,
    lowest_ms=1.0,
    dense_ms=8.0,
    curve=[Point(left=0.5, ms=4.5)],
)


@pytest.fixture
def timed(payload: dict[str, Any]) -> dict[str, Any]:
    return payload | {"budget": {"latency_ms": 0.5, "runtime": "onnx", "sequence_length": 64}}


def measure(database: Database, settings: Settings, client: TestClient, payload: dict[str, Any]) -> None:
    """A worker runs a job that measures."""
    job_id = client.post("/v1/jobs", json=payload | {"probe": True}).json()["id"]
    model = find(settings.models_dir, MODEL).architecture.fingerprint
    with database.begin() as session:
        workers.seen(session, "w", 1, WORKER)
        claims.claim(session, job_id, "w", 30)
        for dense in (9.0, 8.0):  # the last counts
            said = MEASURED.model_copy(update={"dense_ms": dense})
            attempts.report(session, job_id, 1, LatencyMeasured(model=model, latency=said).to_json())


def test_what_a_worker_measured_is_in_the_plan(
    client: TestClient, timed: dict[str, Any], database: Database, settings: Settings
) -> None:
    plan = client.post("/v1/jobs:validate", json=timed).json()
    assert plan["latency"] == []
    assert any('"probe": true measures it' in said for said in plan["warnings"])
    measure(database, settings, client, timed)
    plan = client.post("/v1/jobs:validate", json=timed | {"budget": timed["budget"] | {"latency_ms": 2}}).json()
    assert plan["latency"] == [MEASURED.to_json()]
    assert not any("probe" in said for said in plan["warnings"])
    two = timed | {"export": {"formats": ["onnx"]}, "budget": {"params": 0.3}, "probe": True}
    estimate = client.post("/v1/jobs:validate", json=two).json()["estimate"]
    assert estimate["seconds"] == {"low": 40, "high": 300}  # eager, and in ONNX Runtime
    assert estimate["basis"] == "a probe measures, and trains nothing"


def test_what_is_out_of_reach_there_is_refused_at_the_door(
    client: TestClient, timed: dict[str, Any], database: Database, settings: Settings
) -> None:
    assert client.post("/v1/jobs", json=timed).status_code == 202  # nothing is known
    measure(database, settings, client, timed)
    answer = client.post("/v1/jobs", json=timed)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "/budget/latency_ms"
    assert "takes 1 to 8 ms (at most 8.0 times as fast as dense)" in error["detail"]
    assert error["detail"].endswith("asked were 0.5 ms")
    faster = {"speedup": 20, "runtime": "onnx", "sequence_length": 64}
    assert "asked were 0.4 ms" in client.post("/v1/jobs", json=timed | {"budget": faster}).text
    two = timed | {"budgets": [faster, {"params": 0.3}]}
    del two["budget"]
    assert '"/budgets/0/speedup"' in client.post("/v1/jobs", json=two).text
    assert client.post("/v1/jobs", json=timed | {"probe": True}).status_code == 202
    for other in ({"runtime": "torch"}, {"batch_size": 4}, {"sequence_length": 32}, {"latency_ms": 0.95}):
        assert client.post("/v1/jobs", json=timed | {"budget": timed["budget"] | other}).status_code == 202


def test_a_worker_of_which_nothing_is_known_may_be_faster(
    client: TestClient, timed: dict[str, Any], database: Database, settings: Settings
) -> None:
    measure(database, settings, client, timed)
    with database.begin() as session:
        workers.seen(session, "other", 1, WORKER | {"cpu": "another CPU"})
    assert client.post("/v1/jobs", json=timed).status_code == 202
