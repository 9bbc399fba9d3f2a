"""What a tenant may have; what to do is in the answer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event
from starlette.concurrency import run_in_threadpool

import api.routes.jobs
from core.ledger import quotas, workers
from core.ledger.database import Database
from core.ledger.jobs import attempts, claims
from core.ledger.settings import Settings
from core.ledger.tables import DEFAULT_TENANT
from tests.api.conftest import reviews


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Small quotas."""
    return settings.model_copy(update={"max_queued": 3, **getattr(request, "param", {})})


def test_a_full_queue_is_429_and_cancelling_makes_room(client: TestClient, payload: dict[str, Any]) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: client.post("/v1/jobs", json=payload), range(8)))
    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 5
    full = next(answer for answer in answers if answer.status_code == 429)
    assert full.headers["content-type"] == "application/problem+json" and int(full.headers["retry-after"]) > 0
    assert "cancel some" in full.json()["detail"]
    cancelled, other, _ = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    client.post(f"/v1/jobs/{cancelled}/cancel")
    assert client.post("/v1/jobs", json=payload).status_code == 202
    assert client.post(f"/v1/jobs/{cancelled}/retry").status_code == 429
    assert client.get(f"/v1/jobs/{other}").json()["status"] == "queued"


def test_a_request_sent_again_is_no_new_job(client: TestClient, payload: dict[str, Any]) -> None:
    first = client.post("/v1/jobs", json=payload, headers={"Idempotency-Key": "one"})
    for _ in range(2):
        client.post("/v1/jobs", json=payload)
    again = client.post("/v1/jobs", json=payload, headers={"Idempotency-Key": "one"})
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])


@pytest.mark.parametrize("settings", [{"max_stored_bytes": 100_000}], indirect=True)
def test_full_storage_is_403_and_deleting_makes_room(
    client: TestClient, payload: dict[str, Any], database: Database, settings: Settings
) -> None:
    job_id = client.post("/v1/jobs", json=payload).json()["id"]
    with database.begin() as session:
        claims.claim(session, job_id, "w", 30)
        attempts.succeed(session, job_id, 1, {}, {"model.safetensors": ("0" * 64, 99_999)})
    stored = sorted(settings.blobs_dir.glob("*/*/*"))
    refused = client.post("/v1/datasets", files={"file": ("more.csv", reviews(60, first=100))})
    assert refused.status_code == 403 and "DELETE /v1/jobs" in refused.json()["detail"]
    assert sorted(settings.blobs_dir.glob("*/*/*")) == stored
    assert client.post("/v1/jobs", json=payload).status_code == 403
    client.delete(f"/v1/jobs/{job_id}")
    assert client.post("/v1/datasets", files={"file": ("more.csv", reviews(60, first=100))}).status_code == 201
    assert client.post("/v1/jobs", json=payload).status_code == 202


@pytest.mark.parametrize("settings", [{"max_stored_bytes": 100_000}], indirect=True)
def test_a_job_that_waits_for_room_is_told_so(
    client: TestClient, payload: dict[str, Any], database: Database, settings: Settings
) -> None:
    done, waits = (client.post("/v1/jobs", json=payload).json()["id"] for _ in range(2))
    with database.begin() as session:
        workers.seen(session, "host:1", 1, {"type": "cpu", "gpus": [], "cpus": 2, "memory_bytes": 2**34})
        claims.claim(session, done, "w", 30)
        attempts.succeed(session, done, 1, {}, {"model.safetensors": ("0" * 64, 99_999)})
        assert claims.claim_next(session, "w", 30, max_stored_bytes=settings.max_stored_bytes) is None
    told = client.get(f"/v1/jobs/{waits}").json()["waiting"]
    assert "of 100,000 bytes are used; delete jobs or data sets" in told
    client.delete(f"/v1/jobs/{done}")
    assert "free" in client.get(f"/v1/jobs/{waits}").json()["waiting"]


@pytest.mark.parametrize("settings", [{"max_stored_bytes": 10**6, "max_upload_bytes": 2**24}], indirect=True)
def test_an_upload_that_cannot_be_kept_is_not_read(client: TestClient) -> None:
    read = []

    def body() -> Iterator[bytes]:
        for _ in range(80):
            read.append(True)
            yield bytes(10**5)

    for address in ("/v1/datasets", "/data", "/new"):
        headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "8000000"}
        refused = client.post(address, content=body(), headers=headers)
        assert refused.status_code == 403 and "of 1,000,000 bytes are used; delete" in refused.json()["detail"], address
    assert not read


def test_a_twin_that_is_slower_is_not_counted_against_its_own_job(
    client: TestClient, payload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first takes the last place while the second, sent for lack of an answer, is being checked."""
    for _ in range(2):
        client.post("/v1/jobs", json=payload)
    answers = []
    check = api.routes.jobs.check

    def ask() -> None:
        answers.append(client.post("/v1/jobs", json=payload, headers={"Idempotency-Key": "one"}))

    async def slow(*arguments: Any) -> None:
        await check(*arguments)
        monkeypatch.setattr(api.routes.jobs, "check", check)
        await run_in_threadpool(ask)

    monkeypatch.setattr(api.routes.jobs, "check", slow)
    ask()
    assert [answer.status_code for answer in answers] == [202, 202]
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_what_is_stored_is_summed_in_one_statement(database: Database) -> None:
    """An upload that became a data set between two would be in neither sum."""
    seen: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *call: seen.append(call[2]))
    with database.begin() as session:
        quotas.stored_bytes(session, DEFAULT_TENANT)
    assert len([statement for statement in seen if statement.startswith("SELECT")]) == 1
