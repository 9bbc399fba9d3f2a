"""Jobs through HTTP: accepted once, followed, stopped, told of by webhooks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from core.ledger import webhooks
from core.ledger.database import Database
from core.ledger.jobs import attempts, claims
from core.ledger.settings import Settings
from tests.api.conftest import (
    faults,
    one_database,
    put,
)


def test_a_job_is_accepted_and_can_be_followed(client: TestClient, payload: dict[str, Any]) -> None:
    answer = client.post("/v1/jobs", json=payload)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}" == job["links"]["self"]
    assert int(answer.headers["retry-after"]) > 0
    assert (job["status"], job["stage"], job["attempt"], job["max_attempts"]) == ("queued", None, 0, 3)
    assert job["spec"]["budget"]["params"] == 0.3
    assert job["spec"]["method"]["name"] == "fisher"
    assert job["created_at"].endswith("Z")
    assert job["started_at"] is job["finished_at"] is job["metrics"] is job["error"] is job["eta_s"] is None
    assert client.get(answer.headers["location"]).json() == job
    [event] = client.get(job["links"]["events"]).json()["items"]
    assert (event["type"], event["data"]) == ("status", {"status": "queued"})
    assert client.get(job["links"]["files"]).json() == {"items": []}


def test_progress_metrics_and_errors_are_shown(client: TestClient, payload: dict[str, Any], database: Database) -> None:
    first, second = (client.post("/v1/jobs", json=payload).json()["id"] for _ in range(2))
    with database.begin() as session:
        for job_id in (first, second):
            assert claims.claim(session, job_id, "w", 30)
        attempts.report(session, first, 1, {"event": "stage", "stage": "prune"})
        progress = {"step": 5, "steps": 10, "eta_s": 12.5, "overall": 0.4, "sparsity": 0.6, "dev": {"accuracy": 0.8}}
        attempts.report(session, first, 1, {"event": "progress", "stage": "prune", **progress})
    running = client.get(f"/v1/jobs/{first}")
    assert running.json()["progress"].items() >= progress.items()
    assert (running.json()["stage"], running.json()["eta_s"], running.json()["attempt"]) == ("prune", 12.5, 1)
    assert "retry-after" in running.headers
    with database.begin() as session:
        attempts.succeed(session, first, 1, {"results": {"dense": {}}}, {})
        attempts.fail(session, second, 1, {"code": "invalid", "field": "/model", "message": "is no model"})
    succeeded, failed = client.get(f"/v1/jobs/{first}"), client.get(f"/v1/jobs/{second}").json()
    assert succeeded.json()["status"] == "succeeded"
    assert succeeded.json()["metrics"] == {"results": {"dense": {}}}
    assert succeeded.json()["finished_at"] >= succeeded.json()["started_at"]
    assert "retry-after" not in succeeded.headers
    assert failed["error"] == {"code": "invalid", "field": "/model", "message": "is no model"}


def test_events_are_read_by_cursor(client: TestClient, payload: dict[str, Any], database: Database) -> None:
    job_id = client.post("/v1/jobs", json=payload).json()["id"]
    with database.begin() as session:
        claims.claim(session, job_id, "w", 30)
        for step in range(5):
            attempts.report(session, job_id, 1, {"event": "progress", "step": step, "overall": step / 10})
    seen: list[dict[str, Any]] = []
    after = 0
    while page := (answer := client.get(f"/v1/jobs/{job_id}/events?after={after}&limit=3").json())["items"]:
        assert len(page) <= 3
        seen += page
        after = answer["after"]
    assert [e["data"]["step"] for e in seen if e["type"] == "progress"] == [0, 1, 2, 3, 4]
    assert [e["seq"] for e in seen] == sorted({e["seq"] for e in seen})
    assert answer["after"] == after
    for query in ("after=-1", "after=x", f"after={2**63}", "limit=0", "limit=1001"):
        assert client.get(f"/v1/jobs/{job_id}/events?{query}").status_code == 422


def test_list_by_status_and_cursor(client: TestClient, payload: dict[str, Any]) -> None:
    ids = [client.post("/v1/jobs", json=payload).json()["id"] for _ in range(4)]
    client.post(f"/v1/jobs/{ids[1]}/cancel")
    seen, cursor = [], None
    while True:
        page = client.get("/v1/jobs", params={"status": "queued", "limit": 2} | ({"cursor": cursor} if cursor else {}))
        seen += [job["id"] for job in page.json()["items"]]
        if (cursor := page.json()["next"]) is None:
            break
    assert seen == [ids[3], ids[2], ids[0]]
    assert [job["id"] for job in client.get("/v1/jobs?status=cancelled").json()["items"]] == [ids[1]]
    assert client.get("/v1/jobs?status=%00").json()["errors"][0]["parameter"] == "status"


def test_cancel(client: TestClient, payload: dict[str, Any], database: Database) -> None:
    queued, running, done = (client.post("/v1/jobs", json=payload).json()["id"] for _ in range(3))
    with database.begin() as session:
        claims.claim(session, running, "w", 30)
        claims.claim(session, done, "w", 30)
        attempts.succeed(session, done, 1, {}, {})
    for _ in range(2):
        assert client.post(f"/v1/jobs/{queued}/cancel").json()["status"] == "cancelled"
        assert client.post(f"/v1/jobs/{running}/cancel").json()["status"] == "cancelling"
    refused = client.post(f"/v1/jobs/{done}/cancel")
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert "succeeded" in refused.json()["detail"]


@pytest.mark.parametrize("job_id", ["job_" + "0" * 32, "nonsense", "%00", "..", "job_%ED%A0%80", "JOB_" + "0" * 32])
def test_unknown_and_malformed_ids_are_404(client: TestClient, job_id: str) -> None:
    here = f"/v1/jobs/{job_id}"
    for answer in (
        *(client.get(here + rest) for rest in ("", "/events", "/files", "/files/a.json")),
        client.post(f"{here}/cancel"),
    ):
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


# --- Idempotency-Key ----------------------------------------------------------------------------------------


def test_the_same_key_makes_one_job(client: TestClient, payload: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
    first, second = (client.post("/v1/jobs", json=payload, headers=headers) for _ in range(2))
    assert first.status_code == second.status_code == 202
    assert first.json()["id"] == second.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    other = client.post("/v1/jobs", json=put(payload, "/train/seed", 1), headers=headers)
    assert other.status_code == 422
    assert other.json()["errors"][0]["parameter"] == "Idempotency-Key"
    assert len(client.get("/v1/jobs").json()["items"]) == 1


def test_a_request_sent_again_gets_its_job_though_it_would_be_refused_now(
    client: TestClient, payload: dict[str, Any], settings: Settings
) -> None:
    headers = {"Idempotency-Key": "one"}
    first = client.post("/v1/jobs", json=payload, headers=headers)
    (settings.models_dir / payload["model"] / "config.json").unlink()
    again = client.post("/v1/jobs", json=payload, headers=headers)
    assert again.json()["id"] == first.json()["id"] and "retry-after" in again.headers
    client.post(f"/v1/jobs/{first.json()['id']}/cancel")
    assert "retry-after" not in client.post("/v1/jobs", json=payload, headers=headers).headers
    assert client.post("/v1/jobs", json=payload).status_code == 422


def test_many_posts_at_once_with_one_key_make_one_job(client: TestClient, payload: dict[str, Any]) -> None:
    with ThreadPoolExecutor(16) as pool:
        send = lambda _: client.post("/v1/jobs", json=payload, headers={"Idempotency-Key": "one"})  # noqa: E731
        answers = list(pool.map(send, range(32)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(client.get("/v1/jobs").json()["items"]) == 1


@one_database
@pytest.mark.parametrize("key", ["", "a" * 256, "a b", "caf\u00e9"])
def test_an_odd_key_is_refused(client: TestClient, payload: dict[str, Any], key: str) -> None:
    answer = client.post("/v1/jobs", json=payload, headers={b"Idempotency-Key": key.encode("latin-1")})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "Idempotency-Key"


# --- webhooks -----------------------------------------------------------------------------------------------


def test_the_secret_of_a_webhook_is_in_the_answer_and_nowhere_else(client: TestClient, payload: dict[str, Any]) -> None:
    payload["webhook"] = {"url": "https://example.org/hooks"}
    first, again = (client.post("/v1/jobs", json=payload, headers={"Idempotency-Key": "one"}) for _ in range(2))
    secret = first.json()["webhook_secret"]
    assert secret.startswith("whsec_") and again.json()["webhook_secret"] == secret  # the first answer may be lost
    assert "webhook_secret" not in client.get(first.headers["location"]).json()
    assert secret not in client.get("/v1/jobs").text


def test_how_the_call_of_a_webhook_fares_is_seen(
    client: TestClient, payload: dict[str, Any], database: Database
) -> None:
    payload["webhook"] = {"url": "https://example.org/hooks"}
    here = client.post("/v1/jobs", json=payload).headers["location"]
    assert client.get(here).json()["delivery"] is None

    def attempts() -> tuple[Any, ...]:
        answer = client.get(here).json()
        assert client.get("/v1/jobs").json()["items"][0] == answer
        told = answer["delivery"]
        times = [told[name] is not None for name in ("last_attempt_at", "next_attempt_at")]
        return told["status"], told["attempts"], told["last_status"], *times

    waiting = client.post(f"{here}/cancel").json()["delivery"]
    assert (waiting["status"], waiting["attempts"], waiting["last_status"]) == ("waiting", 0, None)
    for status, seen in (
        (503, ("waiting", 1, 503, True, True)),
        (None, ("waiting", 2, None, True, True)),
        (200, ("delivered", 3, 200, True, False)),
    ):
        etag = client.get(here).headers["etag"]
        with database.begin() as session:
            letter = webhooks.latest(session, [here.rpartition("/")[2]]).popitem()[1].id
            webhooks.delivered(session, letter, status) if status == 200 else webhooks.failed(session, letter, status)
        assert attempts() == seen
        assert client.get(here, headers={"If-None-Match": etag}).status_code == 200
    client.post(f"{here}/retry")
    client.post(f"{here}/cancel")
    assert client.post(f"{here}/retry").json()["delivery"] is None  # that was of an end that was none
    assert client.get(here).json()["delivery"] is None
    client.post(f"{here}/cancel")
    with database.begin() as session:
        letter = webhooks.latest(session, [here.rpartition("/")[2]]).popitem()[1].id
        webhooks.failed(session, letter, 410, for_good=True)
    assert attempts() == ("given_up", 1, 410, True, False)


@one_database
@pytest.mark.parametrize(
    "url",
    [
        *("http://example.org/", "https://127.0.0.1/", "https://10.0.0.1/", "https://[::1]/", "https://localhost/"),
        *(
            "ftp://example.org/",
            "https://user:pass@example.org/",
            "https://",
            "example.org",
            "https://exa mple.org/",
            "",
        ),
        *(
            "https://256.256.256.256/",
            "https://[v1.a]/",
            "https://example.org:99999/",
            "https://example.org/#x",
            "https://ex\u00e4mple.org/",
        ),
    ],
)
def test_a_webhook_is_a_public_https_address(client: TestClient, payload: dict[str, Any], url: str) -> None:
    assert list(faults(client.post("/v1/jobs", json=payload | {"webhook": {"url": url}}))) == ["/webhook/url"]
