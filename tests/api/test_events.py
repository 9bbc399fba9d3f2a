"""Events as they happen: no gap, no double, an end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from api.routes import events
from core.ledger.database import Database
from core.ledger.jobs import attempts, claims, owner

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
def job_id(client: TestClient, payload: dict[str, Any], database: Database) -> str:
    """A running job."""
    job_id = str(client.post("/v1/jobs", json=payload).json()["id"])
    with database.begin() as session:
        assert claims.claim(session, job_id, "w", 300)
    return job_id


def say(database: Database, job_id: str, step: int) -> None:
    with database.begin() as session:
        attempts.report(session, job_id, 1, {"event": "progress", "step": step, "overall": step / 100})


def succeed(database: Database, job_id: str) -> None:
    with database.begin() as session:
        attempts.succeed(session, job_id, 1, {}, {})


def parse(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Events of a stream; comments are passed over."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line and fields:
            data = json.loads(fields["data"])
            assert (str(data["seq"]), data["type"]) == (fields["id"], fields["event"])
            yield data
            fields = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


def test_a_stream_of_an_ended_job_has_every_event_and_ends(client: TestClient, job_id: str, database: Database) -> None:
    for step in range(30):
        say(database, job_id, step)
    succeed(database, job_id)
    here = f"/v1/jobs/{job_id}/events"
    answer = client.get(here, headers=STREAM)
    assert answer.headers["content-type"].startswith("text/event-stream")
    streamed = list(parse(iter(answer.text.split("\n"))))
    assert streamed == client.get(f"{here}?limit=1000").json()["items"]
    for resume in ({"Last-Event-ID": str(streamed[9]["seq"])}, {}):
        rest = client.get(here if resume else f"{here}?after={streamed[9]['seq']}", headers=STREAM | resume)
        assert list(parse(iter(rest.text.split("\n")))) == streamed[10:]
    over = client.get(here, headers=STREAM | {"Last-Event-ID": str(streamed[-1]["seq"])})
    assert (over.status_code, over.content) == (204, b"")
    assert client.get(here, headers=STREAM | {"Last-Event-ID": "x"}).status_code == 422
    assert client.get(f"/v1/jobs/job_{'0' * 32}/events", headers=STREAM).status_code == 404


def test_a_client_that_is_cut_off_again_and_again_gets_each_event_once(
    live: str, job_id: str, database: Database
) -> None:
    def work() -> None:
        for step in range(60):
            say(database, job_id, step)
            time.sleep(0.02)
        succeed(database, job_id)

    worker = threading.Thread(target=work)
    worker.start()
    seen: list[dict[str, Any]] = []
    connections = 0
    with httpx.Client(base_url=live, timeout=120) as http:
        while not seen or seen[-1]["data"].get("status") != "succeeded":
            last = {"Last-Event-ID": str(seen[-1]["seq"])} if seen else {}
            connections += 1
            with http.stream("GET", f"/v1/jobs/{job_id}/events", headers=STREAM | last) as answer:
                for event in parse(answer.iter_lines()):
                    seen.append(event)
                    if len(seen) % 7 == 0:
                        break
        everything = http.get(f"/v1/jobs/{job_id}/events?limit=1000").json()["items"]
    worker.join()
    assert seen == everything and len(seen) > 50 and connections > 7


def test_a_quiet_stream_beats_and_a_long_one_ends(live: str, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(events, "MAX_STREAM_S", 0.5)
    answer = httpx.get(f"{live}/v1/jobs/{job_id}/events", headers=STREAM, timeout=120)
    assert answer.text.count("event: ") == 2 and answer.text.count(": ping") >= 2


def test_a_deleted_job_ends_its_stream(live: str, job_id: str, client: TestClient, database: Database) -> None:
    def remove() -> None:
        client.post(f"/v1/jobs/{job_id}/cancel")
        with database.begin() as session:
            attempts.stopped(session, job_id, 1)
            owner.remove(session, "tenant_default", job_id)

    threading.Timer(0.5, remove).start()
    assert "event: status" in httpx.get(f"{live}/v1/jobs/{job_id}/events", headers=STREAM, timeout=120).text
