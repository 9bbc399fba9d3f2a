"""Specifications that refer to files of this machine, and those made of words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.client.stub import Stub, dataset, job, page
from topwork import TopworkError
from topwork.spec import filled, named_files, read


def server() -> Stub:
    """One that has no data sets, and takes every upload: its id is the file's name."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/jobs":
            return httpx.Response(202, json=job("queued"))
        if request.method == "GET":
            return page()
        name = request.content.partition(b'filename="')[2].partition(b".csv")[0].decode()
        return httpx.Response(201, json=dataset(id=f"ds_{name}"))

    return Stub(answer)


def write(tmp_path: Path, spec: object) -> Path:
    """The specification as a file, beside a.csv and b.csv."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").touch()
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    return tmp_path / "spec.json"


def test_every_reference_is_replaced(tmp_path: Path) -> None:
    spec = {
        "task": {"data": {"train": {"dataset": "@x"}, "test": {"dataset": "ds_given"}}},
        "sources": [{"data": {"dataset": "@y"}, "text": ["@x"]}],
    }
    path = write(tmp_path, spec)
    files = named_files([f"x={tmp_path}/a.csv", f"y={tmp_path}/b.csv"])
    assert server().client().run(filled(read(path), files, tmp_path)) == {
        "task": {"data": {"train": {"dataset": "ds_a"}, "test": {"dataset": "ds_given"}}},
        "sources": [{"data": {"dataset": "ds_b"}, "text": ["@x"]}],
    }


def test_a_file_beside_the_specification_needs_no_option(tmp_path: Path) -> None:
    path = write(tmp_path, {"task": {"data": {"dataset": "@a.csv"}}})
    made = server().client().run(filled(read(path), {}, path.parent))
    assert made == {"task": {"data": {"dataset": "ds_a"}}}


def test_nothing_is_uploaded_for_a_specification_that_cannot_work(tmp_path: Path) -> None:
    stub = server()
    path = write(tmp_path, {"task": {"data": {"dataset": "@x"}}, "sources": [{"data": {"dataset": "@y"}}]})
    for files, message in (
        ({"x": tmp_path / "a.csv"}, r"'@y' is no file here; give --data y=file\.csv"),
        (dict.fromkeys("xyz", tmp_path / "a.csv"), "--data z=...: nothing refers to it"),
    ):
        with pytest.raises(TopworkError, match=message):
            stub.client().run(filled(read(path), files, tmp_path))
    for text in ("{", '{"budget": {"params": NaN}}', '{"model": "\\ud800"}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(TopworkError, match="is not JSON"):
            read(path)
    assert stub.requests == []


@pytest.mark.parametrize("given", ["file", "path", "set", "splits", "reference"])
def test_words_make_a_specification(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").touch()
    monkeypatch.chdir(tmp_path)
    one: dict[str, Any] = {"dataset": "ds_a"}
    data: dict[str, tuple[Any, Any]] = {
        "file": ("a.csv", one),
        "path": (tmp_path / "a.csv", one),
        "set": ({"a.csv"}, one),
        "splits": ({"train": "a.csv", "test": "ds_t"}, {"train": one, "test": {"dataset": "ds_t"}}),
        "reference": ({"hub": "owner/name"}, {"hub": "owner/name"}),
    }
    stub, (asked, sent) = server(), data[given]
    client = stub.client()
    client.jobs.submit(model="m", data=asked, sources=["a.csv"], budget="10%", title="mine", priority=8)
    assert json.loads(stub.requests[-1].content) == {
        "model": "m",
        "task": {"data": sent},
        "sources": [{"data": one, "label": "label"}],
        "budget": "10%",
        "title": "mine",
        "priority": 8,
    }


def test_words_change_a_specification() -> None:
    stub = server()
    stub.client().jobs.submit({"model": "m", "task": {"text": ["t"]}, "budget": "1%"}, budget="5%", data="ds_1")
    sent = json.loads(stub.requests[-1].content)
    assert sent == {"model": "m", "task": {"text": ["t"], "data": {"dataset": "ds_1"}}, "budget": "5%"}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("x", "give it as name="),
        ("=a.csv", "give it as name="),
        ("x=", "give it as name="),
        ("x=no.csv", "there is no"),
    ],
)
def test_bad_options_are_explained(option: str, message: str) -> None:
    with pytest.raises(TopworkError, match=message):
        named_files([option])
