"""Uploads in parts: in any order, again, and only whole."""

from __future__ import annotations

import hashlib
import io
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

import api.routes.uploads
from api.http import body
from core.ledger import quotas
from core.ledger.database import Database
from core.ledger.files import uploads
from core.ledger.files.stores import open_storage
from core.ledger.settings import Settings
from tests.api.conftest import one_database, reviews
from tests.conftest import every_storage

CONTENT = reviews(100)


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """With other quotas where a test says so."""
    return settings.model_copy(update=getattr(request, "param", {}))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES", 500)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def begin(client: TestClient, content: bytes = CONTENT, **changes: Any) -> Any:
    body = {"name": "reviews.csv", "size_bytes": len(content), "sha256": sha(content)}
    return client.post("/v1/uploads", json=body | changes)


def send(client: TestClient, here: str, number: int, content: bytes = CONTENT, **changes: Any) -> Any:
    part = content[(number - 1) * 500 : number * 500]
    headers = {"Content-Type": "application/octet-stream"}
    params = {"sha256": sha(part)} | changes
    return client.put(f"{here}/parts/{number}", content=part, params=params, headers=headers)


@every_storage
def test_parts_in_any_order_make_the_data_set(client: TestClient) -> None:
    begun = begin(client)
    here, upload = begun.headers["location"], begun.json()
    assert (begun.status_code, upload["part_bytes"], upload["arrived"]) == (201, 500, [])
    numbers = list(range(1, upload["parts"] + 1))
    assert len(numbers) > 3
    random.Random(0).shuffle(numbers)
    for number in numbers[1:]:
        assert send(client, here, number).status_code == 204
    early = client.post(f"{here}/complete")
    assert early.status_code == 409 and early.json()["detail"] == f"Parts are missing: {numbers[0]}."
    assert client.get(here).json()["arrived"] == sorted(numbers[1:])
    for _ in range(2):
        assert send(client, here, numbers[0]).status_code == 204
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: client.post(f"{here}/complete"), range(3)))
    assert {answer.status_code for answer in answers} == {201}
    (dataset_id,) = {answer.json()["id"] for answer in answers}
    dataset = client.get(f"/v1/datasets/{dataset_id}").json()
    assert (dataset["rows"], dataset["upload_sha256"], dataset["name"]) == (100, sha(CONTENT), "reviews.csv")
    assert len(client.get("/v1/datasets").json()["items"]) == 1
    assert client.get(here).json()["dataset"] == dataset_id
    assert send(client, here, 1).status_code == 409
    assert client.delete(here).status_code == 204
    assert client.get(here).status_code == 404 and client.get(f"/v1/datasets/{dataset_id}").status_code == 200


@every_storage
@one_database
def test_a_twin_whose_parts_are_swept_meanwhile_gives_the_same_data_set(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = begin(client)
    here = begun.headers["location"]
    for number in range(1, begun.json()["parts"] + 1):
        send(client, here, number)
    finish, answers = api.routes.uploads._finish, []

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(api.routes.uploads, "_finish", finish)
        answers.append(client.post(f"{here}/complete"))
        open_storage(settings).delete(sha(CONTENT[:500]))
        return finish(*arguments)

    monkeypatch.setattr(api.routes.uploads, "_finish", overtaken)
    answers.append(client.post(f"{here}/complete"))
    assert [answer.status_code for answer in answers] == [201, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1


@every_storage
@one_database
def test_a_damaged_or_wrong_part_is_refused(client: TestClient) -> None:
    here = begin(client).headers["location"]
    damaged = send(client, here, 1, sha256="0" * 64)
    assert (damaged.status_code, damaged.json()["errors"][0]["parameter"]) == (422, "sha256")
    short = send(client, here, 1, CONTENT[:499])
    assert short.status_code == 422 and "has 499 bytes" in short.json()["errors"][0]["detail"]
    for number in (0, -1, 10_000):
        assert send(client, here, number).status_code == 404
    assert send(client, here, 1, sha256="x").status_code == 422
    assert client.get(here).json()["arrived"] == []


def test_a_part_is_not_replaced_by_other_bytes(client: TestClient, settings: Settings) -> None:
    here = begin(client).headers["location"]
    assert send(client, here, 1).status_code == 204
    stored = list(settings.blobs_dir.glob("*/*/*"))
    other = send(client, here, 1, b"x" * 500)
    assert other.status_code == 409 and "begin again" in other.json()["detail"]
    assert send(client, here, 1).status_code == 204
    assert list(settings.blobs_dir.glob("*/*/*")) == stored


@one_database
def test_a_part_is_octets_of_its_size_at_most(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES", body.PART_BYTES)
    content = reviews(60_000)
    assert 2**20 < len(content) < body.PART_BYTES
    address = begin(client, content, size_bytes=2**20).headers["location"] + "/parts/1"
    params = {"sha256": sha(content)}

    def put(content: bytes, **headers: str) -> Any:
        return client.put(address, content=content, params=params, headers=headers)

    assert put(content).status_code == 422  # as `curl -T` sends it: only the size is not that of the part
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/csv"):
        assert put(content, **{"Content-Type": kind}).status_code == 415
        assert put(bytes(body.PART_BYTES + 1), **{"Content-Type": kind}).status_code == 413


@one_database
def test_a_whole_that_is_not_what_was_announced(client: TestClient) -> None:
    for changes, reason in (
        ({"sha256": "0" * 64}, "announced"),
        ({"name": "reviews.parquet"}, "Parquet"),
    ):
        content = b"PAR1" * 100
        here = begin(client, content, **changes).headers["location"]
        send(client, here, 1, content)
        refused = client.post(f"{here}/complete")
        [fault] = refused.json()["errors"]
        assert refused.status_code == 422 and reason in fault["detail"] and fault["pointer"] == ""
    assert client.get("/v1/datasets").json()["items"] == []


@one_database
@pytest.mark.parametrize(
    ("changes", "status", "pointer"),
    [
        ({"size_bytes": 2**30}, 413, "/size_bytes"),
        ({"size_bytes": 0}, 422, "/size_bytes"),
        ({"sha256": "abc"}, 422, "/sha256"),
        ({"name": "a/"}, 422, "/name"),
        ({"delimiter": "--"}, 422, "/delimiter"),
        ({"encoding": "klingon"}, 422, "/encoding"),
        ({"encoding": "base64"}, 422, "/encoding"),
        ({"header": "yes"}, 422, "/header"),
        ({"parts": 3}, 422, "/parts"),
    ],
)
def test_a_wrong_announcement(client: TestClient, changes: dict[str, Any], status: int, pointer: str) -> None:
    answer = begin(client, **changes)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (status, pointer)


@pytest.mark.parametrize("settings", [{"max_stored_bytes": 30_000}], indirect=True)
def test_a_table_that_is_larger_than_its_file_counts_whole(client: TestClient, settings: Settings) -> None:
    """Announced are the few bytes of the file; as text the same numbers take many times as much."""
    table = pa.table({str(i): range(7919 * i, 7919 * i + 3000) for i in range(10)})
    file = io.BytesIO()
    delta = dict.fromkeys(table.column_names, "DELTA_BINARY_PACKED")
    pq.write_table(table, file, compression="zstd", use_dictionary=False, column_encoding=delta)
    content = file.getvalue()
    assert len(content) < 30_000
    here = begin(client, content, name="a.parquet").headers["location"]
    for number in range(1, client.get(here).json()["parts"] + 1):
        assert send(client, here, number, content).status_code == 204
    stored = sorted(settings.blobs_dir.glob("*/*/*"))
    refused = client.post(f"{here}/complete")
    assert refused.status_code == 403 and "are used" in refused.json()["detail"]
    assert sorted(settings.blobs_dir.glob("*/*/*")) == stored
    assert client.get("/v1/datasets").json()["items"] == [] and client.get(here).json()["dataset"] is None


def test_what_is_under_way_counts_and_is_forgotten_after_a_day(client: TestClient, database: Database) -> None:
    here = begin(client).headers["location"]
    with database.begin() as session:
        assert quotas.stored_bytes(session, "tenant_default") == len(CONTENT)
        uploads.forget(session, 3600)
    assert client.get(here).status_code == 200
    send(client, here, 1)
    with database.begin() as session:
        uploads.forget(session, -1)
        assert quotas.stored_bytes(session, "tenant_default") == 0
    assert client.get(here).status_code == 404
