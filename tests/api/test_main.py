"""The application as a whole: health, errors outside the routes, the description of itself."""

from __future__ import annotations

import re
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from api.routes import health, models
from core.ledger.files.storage import LocalStorage
from core.ledger.settings import Settings
from tests.api.conftest import one_database
from tests.conftest import Broker


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["title"]
    return document


def test_unknown_addresses_and_methods(client: TestClient) -> None:
    for path in ("/nothing", "/v1", "/v1/jobs/", "/v1/%00", "/v1/datasets/a/b/c"):
        problem(client.get(path), 404)
    for method, path in (
        ("PUT", "/v1/jobs"),
        ("DELETE", "/v1/models"),
        ("PATCH", "/healthz"),
        ("GET", "/v1/jobs/a/cancel"),
    ):
        answer = client.request(method, path)
        problem(answer, 405)
    assert set(client.put("/v1/jobs").headers["allow"].split(", ")) == {"GET", "POST"}


@one_database
def test_an_unexpected_error_tells_nothing_of_the_inside(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_folder: Path) -> None:
        raise RuntimeError("secret /path/to/something")

    monkeypatch.setattr(models, "local_models", broken)
    document = problem(client.get("/v1/models"), 500)
    assert "secret" not in str(document)
    assert client.get("/healthz").json() == {"status": "ok"}


@one_database
def test_what_arrives_lies_in_the_data_folder(client: TestClient, settings: Settings) -> None:
    assert tempfile.gettempdir() == str(settings.scratch_dir.resolve())


def test_models_before_any_is_there(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(data_dir=tmp_path / "new", require_keys=False)), "http://localhost") as client:
        assert client.get("/v1/models").json() == {"items": [], "unusable": []}


def test_a_model_is_described(client: TestClient) -> None:
    [model] = client.get("/v1/models").json()["items"]
    assert (model["name"], model["architecture"], model["layers"], model["heads"]) == ("tiny-bert", "bert", 2, 4)
    assert model["model_params"] == model["encoder_params"] + 100 * 16


def test_ready_while_the_broker_answers(settings: Settings, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "HOLD_S", 0.0)
    with TestClient(create_app(settings.model_copy(update={"broker_url": broker.url})), "http://localhost") as client:
        ready = {"status": "ready", "parts": {"database": "ok", "broker": "ok", "storage": "ok"}}
        assert client.get("/readyz").json() == ready
        broker.stop()
        assert [fault["parameter"] for fault in problem(client.get("/readyz"), 503)["errors"]] == ["broker"]


def test_many_who_ask_whether_it_is_ready_cost_one_look(
    settings: Settings, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def put(*_: Any) -> tuple[str, int]:
        looks.append(time.sleep(0.2))
        raise OSError

    monkeypatch.setattr(LocalStorage, "put", put)
    monkeypatch.setattr(health, "HOLD_S", 600.0)
    app = create_app(settings.model_copy(update={"broker_url": broker.url}))
    with TestClient(app, "http://localhost") as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.get("/readyz"), range(16)))
        assert {answer.status_code for answer in answers} == {503} and len(looks) == 1
        app.state.probes._until = 0.0
        client.get("/readyz")
        assert len(looks) == 2


def test_not_ready_names_each_part(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url=None, require_keys=False)
    (tmp_path / "blobs").write_text("a file where a folder should be")
    with TestClient(create_app(settings), "http://localhost", raise_server_exceptions=False) as client:
        answer = client.get("/readyz")
        faults = {fault["parameter"]: fault["detail"] for fault in problem(answer, 503)["errors"]}
        assert faults.keys() == {"database", "broker", "storage"}
        assert "topwork migrate" in faults["database"]
        assert str(tmp_path) not in answer.text
        assert client.get("/healthz").status_code == 200
        problem(client.get("/v1/jobs"), 503)  # no tables yet


@one_database
def test_the_api_describes_itself(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    post = document["paths"]["/v1/jobs"]["post"]
    body = post["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/JobSpec"}
    assert "Idempotency-Key".lower() in {parameter["name"].lower() for parameter in post["parameters"]}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation.get("description"), (method, path)
            for status, answer in operation["responses"].items():
                if status.startswith(("4", "5")) and "content" in answer:
                    assert list(answer["content"]) == ["application/problem+json"], (method, path, status)


@one_database
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/v1/jobs?labels=team:search", "did you mean 'label'? known here: cursor, label, limit, status"),
        ("/v1/jobs?limit=2&Status=failed", "did you mean 'status'?"),
        ("/v1/models?limit=2", "this address takes none"),
        ("/v1/jobs/job_x?wait=1&wiat=2", "did you mean 'wait'?"),
        ("/v1/jobs?" + "&".join(f"x{i}=1" for i in range(1000)), "is not a known parameter"),
        ("/v1/jobs?" + "x" * 5000, "is not a known parameter"),
    ],
)
@pytest.mark.field("3. Under attack", "unknown query parameters", "refused by name")
def test_a_parameter_that_is_not_known_is_named(client: TestClient, address: str, said: str) -> None:
    answer = client.get(address)
    assert said in problem(answer, 422)["errors"][0]["detail"] and len(answer.content) < 3000


@one_database
@pytest.mark.field("3. Under attack", "`/docs`", "served by ourselves, strict policy")
def test_the_reference_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(loaded) == 4 and all(address.startswith("/docs/") for address in loaded)
    assert "://" not in page.text and not re.search(r"<script>|<style|\son\w+=", page.text)
    for address in (*loaded, "/docs"):
        answer = client.get(address)
        assert answer.status_code == 200 and len(answer.content) > 50
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self';" in policy and "frame-ancestors 'none'" in policy
        assert "://" not in policy and answer.headers["x-content-type-options"] == "nosniff"
    assert b"SwaggerUIBundle" in client.get("/docs/swagger-ui-bundle.js").content
    for odd in ("/redoc", "/docs/index.html", "/docs/..%2fmain.py", "/docs/oauth2-redirect"):
        assert client.get(odd).status_code == 404


@one_database
def test_every_method_that_a_job_may_name_is_described(client: TestClient) -> None:
    items = client.get("/v1/methods").json()["items"]
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert [item["name"] for item in items] == schemas["Method"]["properties"]["name"]["enum"]
    assert all(item["use"] and item["needs"] and item["cost"] for item in items)
