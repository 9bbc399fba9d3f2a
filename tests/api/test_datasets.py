"""Uploads through HTTP: three formats in, problems for everything else."""

from __future__ import annotations

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from core.ledger import jobs
from core.ledger.database import Database
from core.ledger.settings import Settings
from tests.api.conftest import Upload, one_database, reviews
from tests.conftest import every_storage


def parquet(columns: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def post(client: TestClient, name: str, content: bytes) -> Any:
    return client.post("/v1/datasets", files={"file": (name, content)})


@every_storage
@pytest.mark.parametrize(
    ("name", "content", "labels"),
    [
        ("rows.csv", b"text,label\ngood,1\nbad,0\n", ["1", "0"]),
        ("rows.CSV", b"\xef\xbb\xbftext,label\r\ngood,1\r\nbad,0\r\n", ["1", "0"]),
        ("rows.jsonl", b'{"text": "good", "label": 1}\n\n{"text": "bad", "label": 0}', [1, 0]),
        ("rows.parquet", parquet({"text": ["good", "bad"], "label": [1, 0]}), [1, 0]),
    ],
)
def test_upload_of_each_format_can_be_read_back(
    client: TestClient, name: str, content: bytes, labels: list[Any]
) -> None:
    created = post(client, name, content)
    assert created.status_code == 201
    dataset = created.json()
    assert created.headers["location"] == f"/v1/datasets/{dataset['id']}" == dataset["links"]["self"]
    assert (dataset["name"], dataset["rows"], dataset["columns"]) == (name, 2, ["text", "label"])
    assert dataset["upload_sha256"] == hashlib.sha256(content).hexdigest()
    assert dataset["created_at"].endswith("Z")
    assert client.get(created.headers["location"]).json() == dataset
    assert client.get(dataset["links"]["preview"]).json() == {
        "columns": ["text", "label"],
        "rows": [{"text": "good", "label": labels[0]}, {"text": "bad", "label": labels[1]}],
        "understood": dataset["understood"],
    }


@every_storage
def test_preview_gives_as_many_rows_as_asked_and_shortens_cells(client: TestClient, upload: Upload) -> None:
    here = f"/v1/datasets/{upload(b'text' + b''.join(b'%c%s' % (10, b'x' * 5000) for _ in range(9)))}/preview"
    rows = client.get(here, params={"rows": 3}).json()["rows"]
    assert [len(row["text"]) for row in rows] == [1001] * 3
    for bad in ("0", "101", "x", "1" * 400):
        answer = client.get(here, params={"rows": bad})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["parameter"] == "rows"


def test_a_file_name_is_only_a_name(client: TestClient) -> None:
    assert post(client, "../../etc/rows.csv", b"a\n1").json()["name"] == "rows.csv"
    assert post(client, "C:\\data\\rows.csv", b"a\n1").json()["name"] == "rows.csv"


def test_list_pages_newest_first_and_new_rows_move_nothing(client: TestClient, upload: Upload) -> None:
    ids = [upload(b"a\n%d" % i) for i in range(5)]
    first = client.get("/v1/datasets", params={"limit": 2}).json()
    upload(b"a\nlate")
    second = client.get("/v1/datasets", params={"limit": 2, "cursor": first["next"]}).json()
    third = client.get("/v1/datasets", params={"limit": 2, "cursor": second["next"]}).json()
    assert [d["id"] for page in (first, second, third) for d in page["items"]] == ids[::-1]
    assert third["next"] is None


BAD_FILES = {  # one of each way to be refused; what each kind of file is told, tests/rows asks
    "empty": ("rows.csv", b"", "is empty"),
    "header only": ("rows.csv", b"text,label\n", "no rows"),
    "not JSON": ("rows.jsonl", b"{", "line 1"),
    "very nested": ("rows.jsonl", b'{"a": ' + b"[" * 100_000, "line 1"),
    "lone surrogate": ("rows.jsonl", b'{"a": "\\ud800"}', "surrogate"),
    "no Parquet": ("rows.parquet", b"PAR1nonsensePAR1", "Parquet"),
    "cut Parquet": ("rows.parquet", parquet({"a": ["b"] * 100})[:-20], "Parquet"),
    "no columns": ("rows.parquet", parquet({}), "no rows"),
    "too many rows": ("rows.csv", b"a\n" + b"1\n" * 5001, "5,000 rows"),
}


@one_database
@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_with_a_reason_and_leaves_nothing(
    client: TestClient, settings: Settings, case: str
) -> None:
    name, content, reason = BAD_FILES[case]
    answer = post(client, name, content)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    [fault] = answer.json()["errors"]
    assert fault["pointer"] == "/file"
    assert reason in fault["detail"]
    assert len(answer.content) < 3000
    assert client.get("/healthz").status_code == 200
    assert client.get("/v1/datasets").json()["items"] == []
    assert not list(settings.scratch_dir.iterdir())
    assert not [path for path in settings.blobs_dir.rglob("*") if path.is_file()]


@one_database
def test_ten_million_characters_in_a_cell(client: TestClient) -> None:
    """More than the upload limit of these tests too: with the default limits it is the cell that is refused."""
    answer = post(client, "rows.csv", b"text,label\n" + b"x" * 10_000_000 + b",1")
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/healthz").status_code == 200


@one_database
def test_an_upload_over_the_limit_is_refused_while_it_streams(client: TestClient) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\na\n'
    sent = 0

    def stream() -> Any:
        nonlocal sent
        yield body
        for _ in range(100):
            sent += 1
            yield b"1\n" * 2**16

    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/v1/datasets", content=stream(), headers=headers)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    just_over = post(client, "a.csv", b"a\n" + b"1" * 2**20)
    assert just_over.status_code == 413
    assert just_over.json()["errors"][0]["pointer"] == "/file"


@one_database
@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "application/json", 415),
        (b"a", "", 415),
        (b"a", "multipart/form-data", 400),
        (
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            422,
        ),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 422),
    ],
)
def test_what_is_not_an_upload_is_refused(client: TestClient, body: bytes, content_type: str, status: int) -> None:
    answer = client.post("/v1/datasets", content=body, headers={"content-type": content_type})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if status == 422:
        assert answer.json()["errors"][0]["pointer"] == "/file"


@pytest.mark.parametrize("dataset_id", ["ds_" + "0" * 32, "nonsense", "%00", "..", "ds_%ED%A0%80", "x" * 5000])
def test_unknown_and_malformed_ids_are_404(client: TestClient, dataset_id: str) -> None:
    for path in (f"/v1/datasets/{dataset_id}", f"/v1/datasets/{dataset_id}/preview"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


@one_database
@pytest.mark.parametrize("cursor", ["", "x", "%00", "é", "am9iX3g", "a" * 300, json.dumps({"a": 1})])
def test_a_made_up_cursor_is_refused(client: TestClient, cursor: str) -> None:
    for path in ("/v1/datasets", "/v1/jobs"):
        answer = client.get(path, params={"cursor": cursor})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["parameter"] == "cursor"


def test_odd_column_names_can_be_used(client: TestClient, upload: Upload) -> None:
    rows = reviews(40).replace(b"text,label", b"a.b,a/~b")
    spec = {"model": "tiny-bert", "task": {"data": {"dataset": upload(rows)}, "text": ["a.b"], "label": "a/~b"}}
    answer = client.post("/v1/jobs", json={**spec, "budget": {"params": 0.5}})
    assert answer.status_code == 202, answer.text


@every_storage
def test_a_data_set_is_deleted_unless_a_job_needs_it(
    client: TestClient, payload: dict[str, Any], upload: Upload, database: Database
) -> None:
    used, free = payload["task"]["data"]["dataset"], upload(reviews(10, first=900))
    gone = client.delete(f"/v1/datasets/{free}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert client.delete("/v1/datasets/%00").status_code == 404
    assert client.delete(f"/v1/datasets/{free}").status_code == client.get(f"/v1/datasets/{free}").status_code == 404
    job_id = client.post("/v1/jobs", json=payload).json()["id"]
    with database.begin() as session:
        jobs.claim(session, job_id, "w", 30)
    for status in ("running", "cancelling"):
        refused = client.delete(f"/v1/datasets/{used}")
        assert refused.status_code == 409 and job_id in refused.json()["detail"], status
        client.post(f"/v1/jobs/{job_id}/cancel")
    with database.begin() as session:
        jobs.stopped(session, job_id, 1)
    assert client.delete(f"/v1/datasets/{used}").status_code == 204
    assert client.get(f"/v1/jobs/{job_id}").json()["status"] == "cancelled"
    retried = client.post(f"/v1/jobs/{job_id}/retry")
    assert retried.json()["errors"][0]["pointer"] == "/task/data/dataset"


def test_a_job_and_the_deletion_of_its_data_cannot_both_succeed(
    client: TestClient, payload: dict[str, Any], upload: Upload
) -> None:
    for number in range(6):
        dataset = upload(reviews(60, first=1000 * number))
        spec = payload | {"task": {"data": {"dataset": dataset}}}
        with ThreadPoolExecutor(2) as pool:
            posted = pool.submit(client.post, "/v1/jobs", json=spec)
            deleted = pool.submit(client.delete, f"/v1/datasets/{dataset}")
        assert (posted.result().status_code, deleted.result().status_code) in ((202, 409), (422, 204))
