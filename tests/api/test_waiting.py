"""Following a job without asking again and again: ETag and 304, long polls, retry and delete."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete

from core.ledger.database import Database
from core.ledger.jobs import attempts, claims
from core.ledger.tables import Job
from tests.api.conftest import one_database


@pytest.fixture
def job_id(client: TestClient, payload: dict[str, Any]) -> str:
    """A queued job."""
    return str(client.post("/v1/jobs", json=payload | {"labels": {"team": "search"}}).json()["id"])


def later(seconds: float, action: Any) -> None:
    threading.Timer(seconds, action).start()


def claim(database: Database, job_id: str) -> None:
    with database.begin() as session:
        assert claims.claim(session, job_id, "w", 30)


def test_an_answer_that_has_not_changed_is_not_sent_again(client: TestClient, job_id: str, database: Database) -> None:
    here = f"/v1/jobs/{job_id}"
    etag = client.get(here).headers["etag"]
    for tags in (etag, etag.removeprefix("W/"), f'"x", {etag}', "*"):
        same = client.get(here, headers={"If-None-Match": tags})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
        assert "retry-after" in same.headers
    claim(database, job_id)
    changed = client.get(here, headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json()["status"]) == (200, "running")
    assert changed.headers["etag"] != etag


def test_a_long_poll_answers_when_the_job_changes(client: TestClient, job_id: str, database: Database) -> None:
    here, etag = f"/v1/jobs/{job_id}", client.get(f"/v1/jobs/{job_id}").headers["etag"]

    def status_after(action: Any, headers: dict[str, str]) -> str:
        later(0.5, action)
        answer = client.get(f"{here}?wait=60", headers=headers)  # which would be 304, or as before, if it did not wait
        assert answer.status_code == 200
        return str(answer.json()["status"])

    assert status_after(lambda: client.post(f"{here}/cancel"), {"If-None-Match": etag}) == "cancelled"
    client.post(f"{here}/retry")
    assert status_after(lambda: claim(database, job_id), {}) == "running"


def test_a_long_poll_waits_no_longer_than_asked_and_not_for_what_is_known(client: TestClient, job_id: str) -> None:
    here, etag = f"/v1/jobs/{job_id}", client.get(f"/v1/jobs/{job_id}").headers["etag"]
    started = time.monotonic()
    assert client.get(f"{here}?wait=0.4", headers={"If-None-Match": etag}).status_code == 304
    assert time.monotonic() - started >= 0.4
    client.post(f"{here}/cancel")
    ended = client.get(here).headers["etag"]
    started = time.monotonic()
    assert client.get(f"{here}?wait=60", headers={"If-None-Match": etag}).status_code == 200  # it has changed since
    assert client.get(f"{here}?wait=60", headers={"If-None-Match": ended}).status_code == 304  # and has ended
    assert client.get(f"{here}?wait=60").status_code == 200
    assert time.monotonic() - started < 60
    for wait in ("-1", "61", "x", "nan"):
        assert client.get(f"{here}?wait={wait}").json()["errors"][0]["parameter"] == "wait"


@one_database
def test_a_job_that_is_deleted_ends_the_wait(client: TestClient, job_id: str, database: Database) -> None:
    def remove() -> None:
        with database.begin() as session:
            session.execute(delete(Job).where(Job.id == job_id))

    later(0.3, remove)
    started = time.monotonic()
    assert client.get(f"/v1/jobs/{job_id}?wait=60").status_code == 404
    assert time.monotonic() - started < 60


@one_database
def test_a_hundred_long_polls_keep_nobody_else_waiting(client: TestClient, job_id: str, database: Database) -> None:
    with ThreadPoolExecutor(100) as pool:
        polls = [pool.submit(client.get, f"/v1/jobs/{job_id}?wait=60") for _ in range(100)]
        time.sleep(1.0)
        started = time.monotonic()
        assert client.get("/v1/jobs").status_code == 200  # neither the threads nor the connections are used up
        assert time.monotonic() - started < 60
        claim(database, job_id)
        assert {poll.result().json()["status"] for poll in polls} == {"running"}


def test_retry_and_delete(client: TestClient, job_id: str, database: Database) -> None:
    here = f"/v1/jobs/{job_id}"
    for answer in (client.post(f"{here}/retry"), client.delete(here)):
        assert answer.status_code == 409
        assert "queued" in answer.json()["detail"]
    claim(database, job_id)
    with database.begin() as session:
        attempts.fail(session, job_id, 1, {"code": "x", "message": "y"})
    failed = client.get(here).json()
    again = client.post(failed["links"]["retry"])
    assert again.status_code == 202 and "retry-after" in again.headers
    assert (again.json()["status"], again.json()["attempt"], again.json()["max_attempts"]) == ("queued", 1, 4)
    assert again.json()["error"] is again.json()["finished_at"] is None
    client.post(f"{here}/cancel")
    gone = client.delete(here)
    assert (gone.status_code, gone.content) == (204, b"")
    assert client.delete(here).status_code == client.get(here).status_code == 404


def test_a_retry_is_checked_as_the_job_was(client: TestClient, job_id: str, settings: Any) -> None:
    client.post(f"/v1/jobs/{job_id}/cancel")
    (settings.models_dir / "tiny-bert" / "config.json").unlink()
    refused = client.post(f"/v1/jobs/{job_id}/retry")
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/model")


def test_a_job_of_another_version_is_not_tried_again(client: TestClient, job_id: str, database: Database) -> None:
    client.post(f"/v1/jobs/{job_id}/cancel")
    with database.begin() as session:
        job = session.get_one(Job, job_id)
        job.spec = job.spec | {"later": 1}
    refused = client.post(f"/v1/jobs/{job_id}/retry")
    assert refused.status_code == 409 and "(later)" in refused.json()["detail"]
    assert client.get(f"/v1/jobs/{job_id}").json()["status"] == "cancelled"


def test_list_by_label(client: TestClient, job_id: str, payload: dict[str, Any]) -> None:
    both = client.post("/v1/jobs", json=payload | {"labels": {"team": "search", "run": "a:b"}}).json()["id"]
    client.post("/v1/jobs", json=payload)

    def found(query: str) -> list[str]:
        return [job["id"] for job in client.get(f"/v1/jobs?{query}").json()["items"]]

    assert found("label=team:search") == [both, job_id]
    assert found("label=team:search&label=run:a:b") == [both]
    assert found("label=team:ads") == found("label=run:a") == found("label=team:ads&label=team:search") == []
    null = client.post("/v1/jobs", json=payload | {"labels": {"null": "n", "0": "a.b"}}).json()["id"]
    assert found("label=null:n") == found("label=0:a.b") == [null]
    for bad in ("team", ":search", "te am:search", "a%00:b", "team:%00"):
        fault = client.get(f"/v1/jobs?label={bad}").json()["errors"][0]
        assert fault["parameter"] == "label" and "key:value" in fault["detail"]
