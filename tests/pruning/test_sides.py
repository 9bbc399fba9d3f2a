"""Pictures of the report: those about which one of the two models alone is right, few, small, and nowhere else."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from core.pruning.export.sides import MOST, Sides, changed_sides
from core.pruning.reading.inputs import Inputs
from core.pruning.reading.read import read_inputs
from core.tasks import task_of
from tests.pruning.test_page import HOSTILE, full, page_of
from tests.tiny import TARGET, done
from tests.tiny_images import SIDE, save_pictures, save_tiny_resnet, spec_of


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("sides")
    table = save_pictures(folder / "target.parquet", 150)
    return read_inputs(spec_of(), save_tiny_resnet(folder / "tiny"), {TARGET: table})[0]


def answers(labels: Tensor, wrong: range) -> Tensor:
    """Logits that are right but for some rows, which get the next class."""
    said = labels.clone()
    said[list(wrong)] = (said[list(wrong)] + 1) % 3
    return torch.nn.functional.one_hot(said, 3).float()


def test_each_way_is_counted_and_the_first_are_shown(inputs: Inputs) -> None:
    test, rows = inputs.test, inputs.splits.test
    dense, pruned = answers(test.labels, range(10, 12)), answers(test.labels, range(11, 30))
    found = changed_sides(rows, test, dense, pruned)  # of row 11 both are wrong
    assert (found.lost.count, found.gained.count) == (18, 1)
    assert len(found.lost.shown) == MOST and len(found.gained.shown) == 1
    names = [example.text[0].name for example in rows]
    assert [one.name for one in found.lost.shown] == names[12 : 12 + MOST]
    [one] = found.gained.shown
    assert one.name == names[10] and one.label == one.pruned == rows[10].label != one.dense
    head, _, data = one.thumbnail.partition(",")
    with Image.open(io.BytesIO(base64.b64decode(data))) as small:
        assert head == "data:image/jpeg;base64" and small.size == (SIDE, SIDE)
    same = changed_sides(rows, test, dense, dense)
    assert (same.lost.count, same.gained.count, same.lost.shown) == (0, 0, [])


def test_of_several_labels_all_have_to_be_right(inputs: Inputs) -> None:
    rows = [replace(example, label=("a", "c")) for example in inputs.splits.test[:3]]
    task = task_of("multi_label_classification", ["a", "b", "c"], [("a", "c")])
    test = replace(inputs.test, task=task, labels=torch.tensor([[1.0, 0, 1]] * 3))
    dense = torch.tensor([[1.0, -1, 1], [1, -1, 1], [-1, -1, -1]])
    pruned = torch.tensor([[1.0, -1, 1], [1, 1, 1], [-1, -1, -1]])
    found = changed_sides(rows, test, dense, pruned)
    assert (found.lost.count, found.gained.count) == (1, 0)
    [one] = found.lost.shown
    assert (one.label, one.dense, one.pruned) == ("a, c", "a, c", "a, b, c")


@pytest.mark.slow
def test_no_other_file_of_a_job_holds_them(tmp_path: Path) -> None:
    tables = {TARGET: save_pictures(tmp_path / "target.parquet", 150)}
    train = {"steps": {"teach": 40, "recover": 2}, "learning_rate": 3e-3}
    done(spec_of(budget={"macs": 0.1}, train=train), save_tiny_resnet(tmp_path / "tiny"), tables, tmp_path / "work")
    output = tmp_path / "work/output"
    assert [path.name for path in output.iterdir() if b"data:image" in path.read_bytes()] == ["report.html"]


def test_the_page_shows_them_and_is_safe_to_open(inputs: Inputs, tmp_path: Path) -> None:
    test, rows = inputs.test, inputs.splits.test
    found = changed_sides(rows, test, answers(test.labels, range(2)), answers(test.labels, range(10, 40)))
    said = [replace(one, name=HOSTILE, label=HOSTILE, pruned=HOSTILE) for one in found.lost.shown]
    page = page_of(full(), tmp_path, sides=Sides(replace(found.lost, shown=said), found.gained))
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(pictures) == MOST + 2 and all((one["src"] or "").startswith("data:image/") for one in pictures)
    assert [one["title"] for one in pictures[:MOST]] == [HOSTILE] * MOST
    assert page.text.count(HOSTILE) == 2 * MOST and "script" not in {tag for tag, _ in page.elements}
    assert "the dense model alone is right about 30, and the pruned one alone about 2." in page.text
    assert len((tmp_path / "report.html").read_text()) < 100_000
    plain = page_of(full(), tmp_path)
    assert not re.search("img|changed sides", plain.text) and "img" not in {tag for tag, _ in plain.elements}
