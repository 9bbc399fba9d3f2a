"""Specifications that refer to files of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.submit import SubmitError, named_files, read_spec


def upload(path: Path) -> dict[str, Any]:
    """As the server answers, with the file's name as its id."""
    return {"id": f"ds_{path.stem}"}


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
    assert read_spec(path, files, upload) == {
        "task": {"data": {"train": {"dataset": "ds_a"}, "test": {"dataset": "ds_given"}}},
        "sources": [{"data": {"dataset": "ds_b"}, "text": ["@x"]}],
    }


def test_nothing_is_uploaded_for_a_specification_that_cannot_work(tmp_path: Path) -> None:
    uploaded: list[Path] = []

    def record(path: Path) -> dict[str, Any]:
        uploaded.append(path)
        return upload(path)

    path = write(tmp_path, {"task": {"data": {"dataset": "@x"}}, "sources": [{"data": {"dataset": "@y"}}]})
    with pytest.raises(SubmitError, match=r"'@y' is not given; add --data y=file\.csv"):
        read_spec(path, {"x": tmp_path / "a.csv"}, record)
    with pytest.raises(SubmitError, match=r"--data z=\.\.\.: .* does not refer to it"):
        read_spec(path, dict.fromkeys("xyz", tmp_path / "a.csv"), record)
    for text in ("{", '{"budget": {"params": NaN}}', '{"model": "\\ud800"}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(SubmitError, match="is not JSON"):
            read_spec(path, {}, record)
    assert uploaded == []


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
    with pytest.raises(SubmitError, match=message):
        named_files([option])
