"""The description of the API is the committed one, and what it shows as examples works as it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from core.ledger.database import Database
from core.ledger.files.storage import LocalStorage
from core.ledger.jobs import attempts, claims, owner
from core.ledger.settings import Settings
from core.ledger.tables import DEFAULT_TENANT, Dataset
from tests.api.conftest import one_database, reviews, write_model

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"
Json = dict[str, Any]


@one_database
def test_the_committed_description_is_the_one_served(client: TestClient) -> None:
    assert json.loads(COMMITTED.read_text()) == client.get("/openapi.json").json(), "run `make openapi`"


def bodies(operation: Json) -> list[Json]:
    """Arguments of a request for each example of the operation's body; one without, where there is no body."""
    if "requestBody" not in operation:
        return [{}]
    ((kind, content),) = operation["requestBody"]["content"].items()
    if kind == "multipart/form-data":
        return [{"files": {"file": ("reviews.csv", content["example"]["file"])}}]
    if kind == "application/octet-stream":
        required = [one for one in operation["parameters"] if one["in"] == "query" and one["required"]]
        params = {one["name"]: one["schema"]["examples"][0] for one in required}
        return [{"content": content["example"].encode(), "headers": {"Content-Type": kind}, "params": params}]
    return [{"json": example["value"]} for example in content["examples"].values()]


@pytest.fixture
def documented(client: TestClient, settings: Settings, database: Database) -> None:
    """What the examples name: a model and two data sets, under these very names."""
    write_model(settings.models_dir / "all-minilm-l6-v2")
    for number, rows in enumerate((300, 60)):
        upload = client.post("/v1/datasets", files={"file": ("a.csv", reviews(rows, first=1000 * number))}).json()
        with database.begin() as session:
            name = f"ds_0192f0c1e0a77c5fb0a6c3a1d2e4f5a{6 + number}"
            session.execute(update(Dataset).where(Dataset.id == upload["id"]).values(id=name))


@one_database
def test_every_example_works(
    client: TestClient, documented: None, settings: Settings, database: Database, tmp_path: Path
) -> None:
    document = json.loads(COMMITTED.read_text())
    submit, begin = (bodies(document["paths"][path]["post"])[0] for path in ("/v1/jobs", "/v1/uploads"))
    part = bodies(document["paths"]["/v1/uploads/{upload_id}/parts/{number}"]["put"])[0]
    storage = LocalStorage(settings.blobs_dir)
    (tmp_path / "report.json").write_text("{}")
    report = {"report.json": storage.put(tmp_path / "report.json")}

    def job(status: str) -> str:
        job_id = str(client.post("/v1/jobs", **submit).json()["id"])
        with database.begin() as session:
            if status == "cancelled":
                owner.cancel(session, DEFAULT_TENANT, job_id)
            elif status == "succeeded":
                claims.claim(session, job_id, "w", 30)
                attempts.succeed(session, job_id, 1, {}, report)
        return job_id

    def upload() -> str:
        upload_id = str(client.post("/v1/uploads", **begin).json()["id"])
        assert client.put(f"/v1/uploads/{upload_id}/parts/1", **part).status_code == 204
        return upload_id

    tried = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path == "/readyz":  # there is no broker here
                continue
            expected = [status for status in operation["responses"] if status.startswith("2")]
            for body in bodies(operation):
                status = {"cancel": "queued", "retry": "cancelled"}.get(path.rpartition("/")[2], "succeeded")
                values = {
                    "job_id": lambda status=status: job(status),
                    "dataset_id": lambda: client.post(
                        "/v1/datasets", files={"file": ("a.csv", reviews(9, first=5000))}
                    ).json()["id"],
                    "key_id": lambda: client.post("/v1/keys", json={"name": "x"}).json()["id"],
                    "path": lambda: "report.json",
                    "upload_id": upload,
                    "number": lambda: "1",
                }
                address = path.format(**{name: make() for name, make in values.items() if f"{{{name}}}" in path})
                answer = client.request(method.upper(), address, **body)
                assert str(answer.status_code) in expected, (method, path, answer.text)
                tried += 1
    assert tried > 30


@one_database
@pytest.mark.parametrize("part", ["report", "archive", "files/report.json"])
def test_every_answer_to_a_download_is_described(client: TestClient, files: str, part: str) -> None:
    here = files.removesuffix("files") + part
    known = client.get("/openapi.json").json()["paths"]
    known = known["/v1/jobs/{job_id}/" + part.replace("report.json", "{path}")]["get"]["responses"]
    asked = ({}, {"Range": "bytes=0-0"}, {"Range": "bytes=99999999-"}, {"If-None-Match": "*"})
    answers = [str(client.get(here, headers=headers).status_code) for headers in asked]
    assert answers == ["200", "206", "416", "304"] and {*answers} <= {*known}
