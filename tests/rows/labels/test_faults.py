"""`label_map`, all faults at once, any cell at all, and what the model may have seen."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from core.rows.columns import Column
from core.rows.data_warnings import doubts
from core.rows.splitting.splits import prepare
from core.spec.errors import SpecError
from tests.rows.labels.helpers import MULTI, NUMBER, WORDS, A, B, C, labelled, refusal, said, spec_of, taken
from tests.tables import columns


def test_a_key_that_no_row_holds_is_named_with_those_near() -> None:
    faults = refusal(labelled(["Positive", "negative"] * 10), label_map={"positive": "x", "negativ": "y", "1.0": "z"})
    assert [field for field, _ in faults] == [f"/task/label_map/{key}" for key in ("positive", "negativ", "1.0")]
    assert "did you mean 'Positive'?" in faults[0][1] and "did you mean 'negative'?" in faults[1][1]
    assert "there are 'Positive', 'negative'" in faults[2][1]


def test_a_key_may_be_spelled_as_in_the_file() -> None:
    assert taken([1.0, 0.0] * 10, label_map={"1.0": "yes", "0": "no"}).labels == ["no", "yes"]
    assert taken(["True", "true", "False"] * 10, label_map={"True": "yes", "FALSE": "no"}).labels == ["no", "yes"]


def test_all_faults_are_told_at_once() -> None:
    spec = spec_of(
        {"train": {"dataset": A}, "test": {"dataset": B}},
        sources=[{"data": {"dataset": C}, "text": ["body"]}, {"data": {"dataset": B}, "label": "label"}],
        text=["txt"],
    )
    tables = {
        A: labelled([["a"], ["a", "b"]] * 10),
        B: labelled([["a"], ["b"], ["a", "b"]] * 10, start=50),
        C: labelled(["a", "b"] * 10, start=100),
    }
    with pytest.raises(SpecError) as caught:
        prepare(spec, tables)
    assert sorted({(fault.field, fault.message[:18]) for fault in caught.value.faults}) == [
        ("/sources/0/text/0", "the data set has n"),
        ("/sources/1/label", "row 3: ['a', 'b'] "),
        ("/task/label", "test set: row 3: ["),
        ("/task/label", "train set: row 2: "),
        ("/task/text/0", "test set: the data"),
        ("/task/text/0", "train set: the dat"),
    ]
    assert str(caught.value).count(";") >= 5


@pytest.mark.parametrize("name", ["split", "Fold"])
def test_test_rows_that_the_data_set_marks_as_training_rows_are_counted(name: str) -> None:
    spec = spec_of()
    table = labelled(["a", "b"] * 20) | {name: Column(["train"] * 30 + ["test"] * 10)}
    splits = prepare(spec, {A: table})
    count = sum(int(row.text[0].split()[1]) < 30 for row in splits.test)
    assert f"{count} of the 8 test rows are marked as training rows in the column '{name}'" in said(splits)
    assert name in spec.optional_columns()[A]
    for marks in (["train"] * 40, ["1"] * 40):
        assert "marked" not in said(prepare(spec, {A: labelled(["a", "b"] * 20) | {name: Column(marks)}}))


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.floats(),
    st.sampled_from(
        ["a", "b", "", "nan", "-1", "a|b", "a,b", "[0, 1]", "['a']", '{"choices": ["a"]}', "{", "[", "1,5"]
    ),
    st.lists(st.sampled_from([0, 1, 2]) | st.sampled_from(["a", "", None])),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(CELLS, CELLS), min_size=10, max_size=40),
    st.sampled_from([{}, MULTI, NUMBER, WORDS]),
    st.sampled_from([None, ("x", "y"), ("x", "y", "z", "w")]),
    st.booleans(),
)
def test_no_cell_is_more_than_a_refusal(
    rows: list[tuple[Any, Any]], task: dict[str, Any], names: tuple[str, ...] | None, nested: bool
) -> None:
    spec = spec_of(**task)
    table = columns(text=[text for text, _ in rows], label=Column([cell for _, cell in rows], names, nested))
    try:
        splits = prepare(spec, {A: table})
    except SpecError as error:
        assert all(fault.field.startswith("/task/") and fault.message for fault in error.faults)
    else:
        assert list(doubts(spec.task, splits)) and not {*splits.labels} & {
            "nan",
            "",
            "[0, 1]",
            "['a']",
            '{"choices": ["a"]}',
        }


def test_spaces_beside_a_separator_are_no_spelling() -> None:
    splits = taken(["a", "a, b", "b,c"] * 20, **MULTI)
    assert splits.labels == ["a", "b", "c"]
    assert "taken as one" not in said(splits, **MULTI)
