"""What cannot work, or is not even a request: refused at once, every fault with its field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.http.body import MAX_JSON_VALUES
from tests.api.conftest import (
    Upload,
    faults,
    one_database,
    put,
    reviews,
)

BAD_FIELDS = [
    ("/model", "no-such-model", "tiny-bert"),
    ("/model", "../tiny-bert", "not a path"),
    ("/model", "/etc/passwd", "not a path"),
    ("/model", "owner/..@main", "not a path"),
    ("/model", "tiny-bert@main", "hub"),
    ("/model", "tiny-bert@feature/x", "hub"),
    ("/model", 3, "string"),
    ("/model", f"owner/{'a' * 300}", "at most 300"),
    ("/modle", "tiny-bert", "known here: budget"),
    ("/task/lable", "label", "known here: augment, data, dimensions, image, label"),
    ("/train/steps/prunes", 1, "prune"),
    ("/task/data/dataset", "ds_" + "0" * 32, "POST /v1/datasets"),
    ("/task/data/dataset", "../etc", "there is no data set"),
    ("/task/data", 1, "object"),
    ("/task/label", "nonsense", "'text', 'label'"),
    ("/task/text/0", "nonsense", "'text', 'label'"),
    ("/task/text", [], "at least 1"),
    ("/task/type", "question-answering", "not available yet"),
    ("/task/split/train", 1000, "60 distinct"),
    ("/task/split/train", "many", "number"),
    ("/task/split/train", 1.5, "between 0 and 1"),
    ("/budget/params", 0.0001, "out of reach"),
    ("/budget/params", 0, "greater than 0"),
    ("/budget/params", "0.1", "as text, give it like '10%', '5M'"),
    ("/budget/params", 2.5, "whole number"),
    ("/budget/params", 10**30, "out of range"),
    ("/budget", {"params": 0.3, "macs": 1000}, "exactly one of 'params', 'macs', 'bytes', 'latency_ms', 'speedup'"),
    ("/budget", {}, "exactly one of 'params', 'macs', 'bytes', 'latency_ms', 'speedup', 'sparsity'"),
    ("/budget", {"bytes": 0.1, "of": "encoder"}, "leave 'of' out"),
    ("/budget/speedup", 1, "greater than 1"),
    ("/budget", {"params": 0.3, "runtime": "onnx"}, "'runtime' is for 'latency_ms' and 'speedup'"),
    ("/method/name", "channels", "not available yet"),
    ("/method/name", "magic", "'l0'"),
    ("/transfer/coupling", "auto", "needs at least one entry in 'sources'"),
    ("/transfer/coupling", "magic", "'teacher'"),
    ("/transfer/coupling", "teacher", "needs at least one entry in 'sources'"),
    ("/export/formats/0", "gguf", "'safetensors', 'onnx' or 'onnx-int8'"),
    ("/task/data/hub", "name@main", "did not come from there"),
    ("/labels/team", "x" * 300, "200"),
    ("/labels/team", "a\x00b", "NUL"),
    ("/labels/my team", "search", "pattern"),
    ("/priority", 10, "less than or equal to 9"),
]
BAD_BODIES = {
    "empty": (b"", "required"),
    "cut": (b'{"model": ', "is not JSON"),
    "no object": (b"[]", "object"),
    "text": (b'"a"', "object"),
    "null": (b"null", "object"),
    "not UTF-8": (b'{"model": "\xff"}', "UTF-8"),
    "NaN": (b'{"budget": {"params": NaN}}', "NaN"),
    "Infinity": (b'{"budget": {"params": -Infinity}}', "Infinity"),
    "overflow": (b'{"budget": {"params": 1e999}}', "out of range"),
    "huge integer": (b'{"budget": {"params": ' + b"9" * 5000 + b"}}", "digits"),
    "large integer": (b'{"budget": {"params": ' + b"9" * 4000 + b"}}", "out of range"),
    "deep": (b"[" * 100_000, "nested"),
    "deep enough": (b"[" * 100 + b"]" * 100, "nested"),
    "deep object": (b'{"a":' * 5000 + b"1" + b"}" * 5000, "nested"),
    "surrogate": (b'{"model": "\\ud800"}', "surrogate"),
    "surrogate in a name": (b'{"\\ud800": 1}', "surrogate"),
    "NUL in a name": (b'{"labels": {"\\u0000": "a"}}', "NUL"),
    "long name": (b'{"%s": 1}' % (b"x" * 900_000), "not a known field"),
    "many names": (json.dumps({f"x{i}": i for i in range(50_000)}).encode(), "more than 5,000 values"),
    "many lists": (b"[" + b"[[]]," * 100_000 + b"1]", "more than 5,000 values"),
    "long value": (b'{"model": "%s"}' % (b"x/" * 400_000), "at most 300"),
}


@one_database
@pytest.mark.parametrize(("pointer", "value", "reason"), BAD_FIELDS)
def test_a_wrong_field_is_named(
    client: TestClient, payload: dict[str, Any], pointer: str, value: Any, reason: str
) -> None:
    payload = put(put(payload, "/export", {"formats": ["safetensors"]}), "/task/text", ["text"])
    answer = client.post("/v1/jobs", json=put(payload, pointer, value))
    found = faults(answer)
    where = "/task/split" if reason == "60 distinct" else pointer
    assert list(found) == [where]
    assert reason in found[where]
    assert client.get("/healthz").status_code == 200
    assert client.get("/v1/jobs").json()["items"] == []


@one_database
@pytest.mark.parametrize(
    ("pointer", "changes"),
    [
        ("/transfer/stages", {"transfer": {"stages": ["teach", "teach"]}}),
        ("/transfer/weighting", {"transfer": {"weighting": "learned"}}),
        ("/control", {"control": True}),
        ("/method/name", {"method": {"name": "l0"}, "export": {"layout": "regular"}}),
        ("/method/name", {"method": {"name": "fisher"}, "budget": {"sparsity": 0.5}}),
        ("/train/steps/prune", {"method": {"name": "fisher"}, "train": {"steps": {"prune": 9}}}),
        ("/resources/gpus", {"resources": {"device": "cuda", "gpus": 4}, "train": {"batch_size": 2}}),
        ("/task/problem_type", {"task": {"problem_type": "regresion", "metric": "r2"}}),
    ],
)
def test_what_does_not_go_together_names_the_field_to_change(
    client: TestClient, payload: dict[str, Any], pointer: str, changes: dict[str, Any]
) -> None:
    changes = {name: payload["task"] | value if name == "task" else value for name, value in changes.items()}
    assert list(faults(client.post("/v1/jobs", json=payload | changes))) == [pointer]


def test_every_fault_is_listed_at_once(client: TestClient, payload: dict[str, Any]) -> None:
    payload |= {"model": "nope", "sources": [{"data": {"dataset": "ds_" + "0" * 32}}]}
    payload = put(payload, "/task/label", "nope")
    assert set(faults(client.post("/v1/jobs", json=payload))) == {"/model", "/task/label", "/sources/0/data/dataset"}


def test_an_empty_request_names_what_is_required(client: TestClient) -> None:
    found = faults(client.post("/v1/jobs", json={}))
    assert found == {"/model": "is required", "/task": "is required", "/budget": "is required"}


def test_of_two_forms_of_data_the_fitting_one_is_explained(client: TestClient, payload: dict[str, Any]) -> None:
    payload["task"]["data"] = {"train": payload["task"]["data"], "dev": {"datset": "x"}}
    assert set(faults(client.post("/v1/jobs", json=payload))) == {"/task/data/dev/datset"}


@one_database
@pytest.mark.parametrize(
    ("content", "pointer", "reason"),
    [
        (reviews(60, ("positive",)), "/task/label", "one class"),
        (reviews(3), "/task/data/dataset", "3 usable"),
        (b"text,label\n" + b"same,a\nsame,b\n" * 30, "/task/data/dataset", "1 usable, distinct"),
        (b"text,label\n" + b",a\n" * 30, "/task/data/dataset", "0 usable"),
    ],
)
def test_data_that_cannot_be_learned_from(
    client: TestClient, payload: dict[str, Any], upload: Upload, content: bytes, pointer: str, reason: str
) -> None:
    answer = client.post("/v1/jobs", json=put(payload, "/task/data/dataset", upload(content)))
    assert reason in faults(answer)[pointer]


def test_a_cell_is_told_by_its_set(client: TestClient, payload: dict[str, Any], upload: Upload) -> None:
    train, test = (
        upload(b"text,label\n" + b"".join(b"row %d,%s\n" % (i, last) for i in range(40))) for last in (b"2", b"x")
    )
    payload["task"] |= {"data": {"train": {"dataset": train}, "test": {"dataset": test}}, "problem_type": "regression"}
    found = faults(client.post("/v1/jobs", json=payload))
    assert found["/task/label"].startswith("test set: row 1: 'x' is not a finite number")


def test_a_label_that_only_the_test_set_shows(client: TestClient, payload: dict[str, Any], upload: Upload) -> None:
    test = upload(reviews(20, ("negative", "mixed"), first=1000))
    payload["task"]["data"] = {"train": payload["task"]["data"], "test": {"dataset": test}}
    found = faults(client.post("/v1/jobs", json=payload))
    assert "'mixed'" in found["/task/data/test"]


def test_a_source_that_repeats_the_target(client: TestClient, payload: dict[str, Any], upload: Upload) -> None:
    payload["sources"] = [{"data": payload["task"]["data"], "label": "label"}]
    assert "repeat the target" in faults(client.post("/v1/jobs", json=payload))["/sources/0/data/dataset"]
    payload["sources"] = [{"data": {"dataset": upload(reviews(60, first=500))}, "label": "label"}]
    assert client.post("/v1/jobs", json=payload).status_code == 202


@one_database
@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_body_that_makes_no_sense(client: TestClient, case: str) -> None:
    body, reason = BAD_BODIES[case]
    answer = client.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert any(reason in detail for detail in faults(answer).values()), answer.text
    assert len(answer.content) < 30_000
    assert client.get("/healthz").status_code == 200


@one_database
@pytest.mark.parametrize(
    "body",
    [
        json.dumps({f"x{i}": i for i in range(100_000)}).encode()[: 2**20 - 1],
        b"[" + b"{}," * 300_000 + b"1]",
        b"[" + b"9" * 4200 + (b",[" + b"9" * 4200) * 240,
        json.dumps({f"x{i}": i for i in range(1_900)}).encode(),
        json.dumps({"labels": {f"x{i}": i for i in range(1_900)}}).encode(),
        json.dumps({"sources": [{"x": 1}] * 900}).encode(),
        json.dumps({"budget": {f"x{i}": i for i in range(1_900)}, "task": {"text": [1] * 90}}).encode(),
        b'{"model": "' + b"\\u00e9" * 160_000 + b'"}',
    ],
    ids=["fields", "objects", "digits", "fewer fields", "labels", "sources", "parts", "escapes"],
)
@pytest.mark.field(
    "3. Under attack",
    "100,000 unknown fields, and other bodies of many values",
    "refused by count, before they are parsed",
)
def test_no_body_keeps_others_waiting(client: TestClient, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is parsed, and looked at of its faults, has a bound; what that costs, benchmarks/hostile measures."""
    parsed, loads = [], json.loads
    monkeypatch.setattr("api.http.body.json.loads", lambda text, **how: parsed.append(text) or loads(text, **how))
    answer = client.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert 1 <= len(faults(answer)) <= 50
    assert all(sum(map(text.count, ",[{")) <= MAX_JSON_VALUES for text in parsed if isinstance(text, str))


@one_database
def test_other_media_types_and_too_much(client: TestClient) -> None:
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = client.post("/v1/jobs", content=b"{}", headers={"content-type": media_type})
        assert answer.status_code == 415
        assert answer.headers["content-type"] == "application/problem+json"
    for content in (b" " * 2_000_000, iter([b" " * 600_000] * 2)):
        answer = client.post("/v1/jobs", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"


@one_database
@pytest.mark.field("1. Data at the door", "faults of model, data and budget in one request", "all of them at once")
def test_faults_of_model_data_and_budget_come_together(
    client: TestClient, payload: dict[str, Any], upload: Upload
) -> None:
    bad = {"data": {"dataset": upload(b"text,label\n" + b"".join(b"one %d,a\n" % i for i in range(30)), "b.csv")}}
    payload["sources"] = [
        {**bad, "label": "label"},
        {**bad, "label": "absent"},
        {"data": {"dataset": "ds_" + 32 * "0"}},
    ]
    payload = put(payload, "/task/label", "wrong") | {"model": "nowhere"}
    data = {"/task/label", "/sources/0/label", "/sources/1/label", "/sources/2/data/dataset"}
    assert {*faults(client.post("/v1/jobs", json=payload))} == data | {"/model"}
    unread = payload | {"budget": {"params": "ten"}, "model": 7, "extra": 1}
    for address in ("/v1/jobs", "/v1/jobs:validate"):
        assert {*faults(client.post(address, json=unread))} == data | {"/model", "/budget/params", "/extra"}
    assert {*faults(client.post("/v1/jobs", json=unread | {"sources": 3}))} == {
        "/model",
        "/budget/params",
        "/extra",
        "/sources",
        "/task/label",
    }
