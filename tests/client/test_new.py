"""`topwork new`: a specification from somebody's rows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.client.stub import Stub, dataset, page
from tests.client.test_commands import FACTS, MODELS, UNDERSTOOD, command


def test_new_asks_three_questions_and_enter_takes_the_default(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("rows.csv", "own.csv", "films.csv"):
        (tmp_path / name).touch()
    made = httpx.Response(201, json=dataset(understood={**UNDERSTOOD, "columns": FACTS}))
    stub.answers = [page(), made, httpx.Response(200, json=MODELS)]
    asked = command("new", "rows.csv", given="\n\n\n")
    assert asked.exit_code == 0 and "topwork submit spec.json --watch" in asked.stdout
    assert json.loads((tmp_path / "spec.json").read_text()) == {
        "model": "all-minilm-l6-v2",
        "task": {"data": {"dataset": "@rows.csv"}, "text": ["review"], "label": "label"},
        "budget": "10%",
    }
    assert command("new", "rows.csv").exit_code == 2  # it is there already
    nowhere = command("new", "rows.csv", "--out", "no/such/spec.json")
    assert nowhere.exit_code == 2 and "no/such is no folder" in nowhere.stderr  # before anything is asked
    stub.answers = [page(), made, page(), made, httpx.Response(200, json=MODELS)]
    options = ["--source", "films.csv", "--out", "b.json", "--quick"]
    told = command("new", "rows.csv", *options, given="own.csv\nother\n3 ms\n")
    spec = json.loads((tmp_path / "b.json").read_text())
    assert told.exit_code == 0
    assert (spec["model"], spec["budget"], spec["train"]["steps"]["recover"]) == ("other", "3 ms", 40)
    assert spec["task"]["unlabelled"] == {"data": {"dataset": "@own.csv"}}
    assert spec["sources"] == [{"data": {"dataset": "@films.csv"}, "text": ["review"], "label": "label"}]


TASK = {"text": ["review"], "label": "sentiment"}


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"review": "text", "sentiment": "few"}, TASK),
        ({"title": "text", "review": "text", "class": "few", "sentiment": "few"}, TASK),
        ({"body": "text", "stars": "few"}, {"text": ["body"], "label": "stars"}),
        ({"words": "text", "of": "text", "text": "text"}, {"text": ["text"]}),
        ({"words": "text", "of": "text"}, None),
    ],
)
def test_new_finds_the_columns_of_a_source(
    stub: Stub, tmp_path: Path, columns: dict[str, str], found: dict[str, Any] | None
) -> None:
    def made(columns: dict[str, str]) -> httpx.Response:
        facts = [
            {"name": name, "type": "text", "empty": 0, "values": {"good": 5, "bad": 4} if kind == "few" else {}}
            for name, kind in columns.items()
        ]
        return httpx.Response(201, json=dataset(columns=[*columns], understood={**UNDERSTOOD, "columns": facts}))

    for name in ("rows.csv", "films.csv"):
        (tmp_path / name).touch()
    task = made({"review": "text", "sentiment": "few"})
    stub.answers = [page(), task, page(), made(columns), httpx.Response(200, json=MODELS)]
    spec = tmp_path / "spec.json"
    asked = command("new", f"{tmp_path}/rows.csv", "--source", f"{tmp_path}/films.csv", "--yes", "--out", str(spec))
    if found is None:
        assert (asked.exit_code, spec.exists()) == (2, False)
        assert "which column is the text? Call it 'review', as the task does: words, of" in asked.stderr
        return
    assert json.loads(spec.read_text())["sources"] == [{"data": {"dataset": "@films.csv"}, **found}]
    assert ("its texts alone are used" in asked.stderr) == ("label" not in found)


def _list(of: str = "text", **values: int) -> dict[str, Any]:
    return {"type": f"list of {of}s", "empty": 0, "values": values}


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (
            {"tokens": _list(), "tags": _list(O=9)},
            {"type": "token-classification", "text": ["tokens"], "label": "tags"},
        ),
        ({"text": _list(), "label": _list()}, {"type": "token-classification"}),
        ({"text": FACTS[0], "tokens": _list(), "ner_tags": _list("classe")}, {"text": ["tokens"], "label": "ner_tags"}),
        ({"text": FACTS[0], "label": _list()}, {"problem_type": "multi_label_classification"}),
        ({"text": FACTS[0], "label": _list(a=900, b=400)}, {"problem_type": "multi_label_classification"}),
        ({"text": FACTS[0], "label": _list(a=5, b=4)}, {"text": ["text"], "label": "label"}),
    ],
)
def test_new_knows_tags_and_several_labels(
    stub: Stub, tmp_path: Path, columns: dict[str, dict[str, Any]], found: dict[str, Any]
) -> None:
    file, spec = tmp_path / "rows.jsonl", tmp_path / "spec.json"
    file.touch()
    facts = [{**one, "name": name} for name, one in columns.items()]
    made = httpx.Response(201, json=dataset(columns=[*columns], understood={**UNDERSTOOD, "columns": facts}))
    stub.answers = [page(), made, httpx.Response(200, json=MODELS)]
    assert command("new", str(file), "--yes", "--out", str(spec)).exit_code == 0
    task = json.loads(spec.read_text())["task"]
    assert task | found == task and ("problem_type" in task) == ("problem_type" in found)


def test_new_names_a_file_of_another_drive_by_its_whole_path(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_drive(_path: object, _start: object) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    file, spec = tmp_path / "rows.csv", tmp_path / "spec.json"
    file.touch()
    made = httpx.Response(201, json=dataset(understood={**UNDERSTOOD, "columns": FACTS}))
    stub.answers = [page(), made, httpx.Response(200, json=MODELS)]
    monkeypatch.setattr(os.path, "relpath", other_drive)
    assert command("new", str(file), "--yes", "--out", str(spec)).exit_code == 0
    assert json.loads(spec.read_text())["task"]["data"] == {"dataset": f"@{file.resolve()}"}


def test_new_says_which_column_it_cannot_find(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").touch()
    stub.answers = [page(), httpx.Response(201, json=dataset(understood={**UNDERSTOOD, "columns": FACTS[:1]}))]
    asked = command("new", str(tmp_path / "rows.csv"), "--out", str(tmp_path / "spec.json"))
    assert (asked.exit_code, asked.stderr) == (2, "which column is the label? Give --label: text, label\n")


def test_new_of_pictures_asks_nothing_if_told_so(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "kinds.zip").touch()
    taken_by = {"name": "photographer", "type": "text", "empty": 0, "values": {}}
    facts = [{"name": "image", "type": "picture", "empty": 0, "values": {}}, FACTS[1], taken_by]
    images = {"items": [*MODELS["items"], {**MODELS["items"][0], "name": "mobilenet-v2", "task": "image"}]}
    images["unusable"] = []
    made = httpx.Response(201, json=dataset(understood={**UNDERSTOOD, "columns": facts}))
    stub.answers = [page(), made, httpx.Response(200, json=images), page(), made, httpx.Response(200, json=images)]
    spec = tmp_path / "spec.json"
    quick = command("new", str(tmp_path / "kinds.zip"), "--yes", "--quick", "--json", "--out", str(spec))
    assert json.loads(quick.stdout)["train"] == {"steps": {"teach": 40, "recover": 40}, "image_size": 64}
    spec.unlink()
    asked = command("new", str(tmp_path / "kinds.zip"), "--yes", "--json", "--out", str(spec))
    assert (
        json.loads(asked.stdout)
        == json.loads(spec.read_text())
        == {
            "model": "mobilenet-v2",
            "task": {
                "data": {"dataset": "@kinds.zip"},
                "type": "image-classification",
                "image": "image",
                "label": "label",
            },
            "budget": "2x",
        }
    )
