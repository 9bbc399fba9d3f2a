"""What cells mean as several labels a row, however they are written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from core.rows.columns import Column
from core.rows.splitting.splits import prepare
from core.spec.errors import SpecError
from tests.rows.labels.helpers import ALL, MULTI, SETS, A, B, found, labelled, refusal, said, spec_of, taken


@pytest.mark.parametrize(
    "write",
    [
        sorted,
        lambda held: json.dumps(sorted(held)),
        lambda held: str(sorted(held)),
        lambda held: " | ".join(sorted(held)),
        lambda held: ",".join(sorted(held)),
        lambda held: "; ".join(sorted(held)) + ";" * bool(held),
        lambda held: json.dumps({"choices": sorted(held)}) if len(held) > 1 else next(iter(held), ""),
        lambda held: json.dumps({name: int(name in held) for name in ALL}),
    ],
    ids=["list", "json", "python", "bars", "commas", "semicolons", "choices", "cats"],
)
def test_several_labels_however_they_are_written(write: Callable[[set[str]], Any]) -> None:
    splits = taken([write(held) for held in SETS], **MULTI)
    assert splits.labels == ALL and found(splits) == Counter(tuple(sorted(held)) for held in SETS)


@pytest.mark.parametrize(
    "write",
    [
        list,
        lambda bits: [float(bit) for bit in bits],
        lambda bits: [bool(bit) for bit in bits],
        lambda bits: str(list(bits)),
        lambda bits: str([str(bit) for bit in bits]),
        lambda bits: json.dumps([float(bit) for bit in bits]),
        lambda bits: "[" + " ".join(map(str, bits)) + "]",
        lambda bits: ",".join(map(str, bits)),
        lambda bits: " ".join(map(str, bits)),
    ],
    ids=["ints", "floats", "bools", "text", "texts", "json", "numpy", "commas", "spaces"],
)
def test_vectors_of_zeros_and_ones_are_labels_by_their_place(write: Callable[[tuple[int, ...]], Any]) -> None:
    vectors = [(0, 1, 0), (1, 1, 0), (0, 0, 0), (0, 0, 1)] * 8
    splits = taken([write(vector) for vector in vectors], **MULTI)
    assert splits.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert found(splits) == {("LABEL_1",): 8, ("LABEL_0", "LABEL_1"): 8, (): 8, ("LABEL_2",): 8}
    assert "lists of 3 zeros and ones" in said(splits, **MULTI)
    names = {"LABEL_0": "toxic", "LABEL_1": "insult", "LABEL_2": "threat"}
    assert taken([write(vector) for vector in vectors], label_map=names, **MULTI).labels == ALL


def test_numbers_of_classes_in_lists_are_their_names() -> None:
    names = ("insult", "threat", "toxic")
    places = taken(Column([[0, 2], [1], [], [0, 1, 2]] * 8, names), **MULTI)
    assert places.labels == ALL and found(places)[("insult", "toxic")] == 8
    two = taken(Column([[0, 1], [1, 0], [0, 2]] * 8, names), **MULTI)  # places: none is held twice
    assert found(two)[("insult", "threat")] == 16
    vectors = taken(Column([[0, 1, 1], [1, 0, 0]] * 8, names), **MULTI)
    assert found(vectors) == {("threat", "toxic"): 8, ("insult",): 8}
    ids = taken([[0, 3], [1], [3]] * 8, **MULTI)
    assert ids.labels == ["0", "1", "3"]


def test_an_empty_cell_of_a_text_is_none_and_null_is_no_answer() -> None:
    splits = taken(["a", "a|b", "", "b"] * 8, **MULTI)
    assert found(splits)[()] == 8 and "8 empty cells are taken as rows to which no label applies" in splits.notes
    assert taken([["a"], ["a", "b"], None, []] * 8, **MULTI).dropped == {"rows without label": 8}


@pytest.mark.parametrize("separator", [" ", "/", " + ", "\n"])
def test_labels_that_are_made_of_others_are_doubted(separator: str) -> None:
    splits = taken(["a", "b", f"a{separator}b"] * 10, **MULTI)
    assert len(splits.labels) == 3 and "10 labels are made of others" in said(splits, **MULTI)
    assert "made of others" not in said(taken(["New York", "a", "b"] * 10, **MULTI), **MULTI)


def test_none_as_a_label_beside_others_is_doubted() -> None:
    splits = taken(["a", "b", "none"] * 10, **MULTI)
    assert "where none applies, give [] or an empty cell" in said(splits, **MULTI)


@pytest.mark.parametrize("cells", [[0, 1], ["1", "0"], [True, False]])
def test_a_column_of_one_label_is_doubted(cells: list[Any]) -> None:
    assert '"label": ["..."]' in said(taken(cells * 20, **MULTI), **MULTI)


def test_commas_that_are_part_of_names_stay_and_are_doubted() -> None:
    splits = taken(["Washington, DC", "Seattle, WA"] * 10, **MULTI)
    assert splits.labels == ["Seattle, WA", "Washington, DC"] and "20 labels hold a comma" in said(splits, **MULTI)


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ([0, 1], "row 41: [0, 1] is no list of 3 zeros and ones"),
        ([0, 2, 1], None),  # then all are numbers of labels
        ([0.5, 1.0, 0.0], "row 41: [0.5, 1.0, 0.0] holds the number 0.5"),
    ],
)
def test_vectors_that_do_not_fit(cell: list[Any], says: str | None) -> None:
    cells = [[0, 1, 0], [1, 1, 0]] * 20 + [cell]
    if says is None:
        assert taken(cells, **MULTI).labels == ["0", "1", "2"]
    else:
        assert refusal(labelled(cells), **MULTI) == [
            ("/task/label", says + refusal(labelled(cells), **MULTI)[0][1][len(says) :])
        ]


def test_training_rows_of_no_label_teach_nothing() -> None:
    tables = {A: labelled([[]] * 20), B: labelled([["toxic"], ["insult"]] * 10, start=20)}
    data = {"train": {"dataset": A}, "test": {"dataset": B}}
    with pytest.raises(SpecError, match="no training row holds any label") as caught:
        prepare(spec_of(data, **MULTI), tables)
    assert caught.value.field == "/task/data/train/dataset"
