"""Uploads through HTTP: three formats in, problems for everything else."""

from __future__ import annotations

import hashlib
import io
import json
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

import api.planning.checks
import api.readers
import api.routes.datasets
from api.main import create_app
from core.ledger import datasets, tables
from core.ledger.database import Database
from core.ledger.files import scratch
from core.ledger.files.stores import open_storage
from core.ledger.jobs import attempts, claims
from core.ledger.settings import Settings
from tests.api.conftest import Upload, one_database, reviews
from tests.conftest import every_storage
from tests.rows import greedy


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """With other limits where a test says so."""
    return settings.model_copy(update=getattr(request, "param", {}))


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
@pytest.mark.field("3. Under attack", "a file that is refused", "leaves nothing")
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
        claims.claim(session, job_id, "w", 30)
    for status in ("running", "cancelling"):
        refused = client.delete(f"/v1/datasets/{used}")
        assert refused.status_code == 409 and job_id in refused.json()["detail"], status
        client.post(f"/v1/jobs/{job_id}/cancel")
    with database.begin() as session:
        attempts.stopped(session, job_id, 1)
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


# --- what was understood ------------------------------------------------------------------------------------


@every_storage
def test_what_was_understood_is_said_everywhere(client: TestClient, upload: Upload) -> None:
    content = "text;label\n" + "".join(f"Café {i};{'Süß' if i % 3 else 'herb'}\n" for i in range(60))
    dataset = client.get(f"/v1/datasets/{upload(content.encode('latin-1'), 'a.csv')}").json()
    said = dataset["understood"]
    assert (said["kind"], said["delimiter"], said["header"], said["rows"]) == ("csv", ";", True, 60)
    assert said["encoding"] and any(said["encoding"] in note for note in said["notes"])
    assert [*said["columns"][1]["values"].items()] == [("Süß", 40), ("herb", 20)]  # though JSONB has the short first
    assert client.get(dataset["links"]["preview"]).json()["understood"] == said
    job = {"model": "tiny-bert", "task": {"data": {"dataset": dataset["id"]}}, "budget": {"params": 0.5}}
    plan = client.post("/v1/jobs:validate", json=job).json()
    assert plan["understood"] == {dataset["id"]: said}
    assert any("2 classes in 60 rows" in note for note in plan["notes"])


@one_database
def test_what_the_user_says_of_a_file_is_heeded(client: TestClient) -> None:
    file = {"file": ("a.csv", "é;1\nü;2\n".encode("cp850"))}
    told = {"delimiter": ";", "encoding": "cp850", "header": "false"}
    dataset = client.post("/v1/datasets", files=file, data=told).json()
    assert client.get(dataset["links"]["preview"]).json()["rows"][0].popitem()[1] in ("1", 1)
    assert dataset["rows"] == 2 and list(dataset["understood"]["columns"][0]["values"]) == ["é", "ü"]
    assert dataset["understood"]["asked"] == {**told, "header": False}


@one_database
@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"seperator": ";"}, "/seperator"),
        ({"delimiter": ";;"}, "/delimiter"),
        ({"encoding": "klingon"}, "/encoding"),
        ({"header": "maybe"}, "/header"),
        ({"header": ["true", "false"]}, "/header"),
    ],
)
def test_a_field_that_says_nothing_is_named(client: TestClient, fields: dict[str, Any], pointer: str) -> None:
    answer = client.post("/v1/datasets", files={"file": ("a.csv", b"a\n1\n")}, data=fields)
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


@one_database
@pytest.mark.field("3. Under attack", "250 files in a form", "refused, none is held")
def test_many_files_in_a_form_are_not_taken_in(client: TestClient) -> None:
    answer = client.post("/v1/datasets", files=[("file", (f"{i}.csv", b"a\n1\n")) for i in range(250)])
    assert answer.status_code == 400 and "Too many files" in answer.json()["detail"]


def test_a_data_set_of_an_earlier_version_is_used_as_before(
    client: TestClient, payload: dict[str, Any], database: Database, settings: Settings, tmp_path: Path
) -> None:
    """All of its columns are text, and nothing is known of how they were read."""
    rows = {"text": [f"review {i}" for i in range(60)], "label": ["0", "1"] * 30}
    pq.write_table(pa.table(rows), tmp_path / "old.parquet", compression="zstd")
    sha256, size = open_storage(settings).put(tmp_path / "old.parquet")
    old = payload["task"]["data"]["dataset"]
    with database.begin() as session:
        session.execute(
            update(tables.Dataset)
            .where(tables.Dataset.id == old)
            .values(sha256=sha256, size_bytes=size, understood=None)
        )
    assert client.get(f"/v1/datasets/{old}").json()["understood"] is None
    preview = client.get(f"/v1/datasets/{old}/preview").json()
    assert preview["rows"][0] == {"text": "review 0", "label": "0"} and preview["understood"] is None
    plan = client.post("/v1/jobs:validate", json=payload)
    assert plan.status_code == 200 and plan.json()["labels"] == ["0", "1"]


# --- reading is bounded -------------------------------------------------------------------------------------


@one_database
@pytest.mark.field("3. Under attack", "uploads and validates, one after another", "the API's memory stays")
def test_the_api_does_not_grow_with_what_is_read(client: TestClient, upload: Upload) -> None:
    """A hundred thousand cells without a value, in a few kB: readers take what they may, this process nothing."""
    upload(reviews(10))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    nulls = parquet({f"c{i}": pa.nulls(5000, pa.string()) for i in range(20)} | {"text": ["a"] * 5000})
    dataset = client.get(f"/v1/datasets/{upload(nulls, 'a.parquet')}").json()
    assert client.get(dataset["links"]["preview"], params={"rows": 100}).status_code == 200
    empty = b"{}\n" * 100_000
    assert post(client, "a.jsonl", empty).status_code == 422
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32_000  # kB


@one_database
@pytest.mark.parametrize("settings", [{"reader_cpu_s": 1}], indirect=True)
def test_a_reader_that_takes_too_long_is_ended_and_said(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "take", greedy.spin_as_take)
    answer = post(client, "a.csv", b"a\n1\n")
    [fault] = answer.json()["errors"]
    assert answer.status_code == 422 and fault["pointer"] == "/file" and "took more than" in fault["detail"]
    assert not list(settings.scratch_dir.iterdir()) and client.get("/v1/datasets").json()["items"] == []


@one_database
@pytest.mark.parametrize("settings", [{"max_readers": 2}], indirect=True)
@pytest.mark.field("3. Under attack", "one tenant's many uploads at once", "others read meanwhile")
def test_one_tenant_holds_half_of_the_readers_and_who_waits_holds_no_thread(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More uploads at once than there are threads, one reader at a time: all come through, and others are served."""
    at_once, most = [0], [0]
    ingest = api.routes.datasets._ingest

    def counted(*given: Any) -> Any:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        try:
            return ingest(*given)
        finally:
            at_once[0] -= 1

    monkeypatch.setattr(api.routes.datasets, "_ingest", counted)
    with ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(post, client, f"{i}.csv", b"a\n%d\n" % i) for i in range(50)]
        assert client.get("/v1/datasets").status_code == 200
        assert {answer.result().status_code for answer in answers} == {201}
    assert most == [1]


@one_database
@pytest.mark.parametrize("settings", [{"max_readers": 2}], indirect=True)
def test_a_turn_that_does_not_come_is_a_503(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.readers, "WAIT_S", 0.05)
    monkeypatch.setattr(api.routes.datasets, "_ingest", lambda *given: time.sleep(1))
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(post, client, "a.csv", b"a\n1\n") for _ in range(2)]
        refused = [answer.result() for answer in answers if answer.result().status_code == 503]
    assert len(refused) == 1 and refused[0].headers["retry-after"] == "10"


@one_database
def test_a_job_is_read_once_to_plan_it_and_to_ask_for_it(
    client: TestClient, payload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.post("/v1/jobs:validate", json=payload).status_code == 200
    monkeypatch.setattr(api.planning.checks, "survey", greedy.bug)
    smaller = payload | {"budget": {"params": 0.2}}
    assert client.post("/v1/jobs:validate", json=smaller).status_code == 200
    assert client.post("/v1/jobs", json=payload).status_code == 202
    other = payload | {"train": {"seed": 1}}
    assert client.post("/v1/jobs", json=other).status_code == 422


def test_what_a_killed_api_has_left_goes_at_the_next_start(settings: Settings) -> None:
    left = settings.scratch_dir / "left"
    left.mkdir(parents=True)
    (left / "upload").write_bytes(b"a")
    with scratch.scratch(settings) as used, TestClient(create_app(settings), "http://localhost"):
        assert used.is_dir() and not left.exists()
