"""What cells mean as one class a row: taken as people mean them and said, or refused with a mend."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.rows.columns import Column
from core.rows.data_warnings import doubts
from core.rows.splitting.splits import prepare
from core.spec.errors import SpecError
from tests.rows.labels.helpers import MULTI, A, B, C, labelled, refusal, said, spec_of, taken
from tests.tables import columns


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        ([0.0, 1.0], {"0", "1"}),
        (["1", "1.0", "0", "0.0"], {"0", "1"}),
        ([True, False], {"true", "false"}),
        (["True", "False"], {"True", "False"}),
        (["True", "true", "FALSE"], {"true", "false"}),
        (["neg", "pos ", " neg", "pos"], {"neg", "pos"}),
        ([["neg"], ["pos"]], {"neg", "pos"}),
        (['["neg"]', "['pos']", "pos"], {"neg", "pos"}),
        (['{"choices": "neg"}', '{"choices": ["pos"]}', "pos"], {"neg", "pos"}),
        (['{"NEG": 1, "POS": 0}', '{"NEG": 0, "POS": 1}'], {"NEG", "POS"}),
        ([1.0, 1.5, 2.0], {"1", "1.5", "2"}),
        (["caf\u00e9", "cafe\u0301", "very\u00a0 good", "very good"], {"caf\u00e9", "very good"}),
        (Column([0, 1], ("negative", "positive")), {"negative", "positive"}),
        (Column([[0], [1]], ("negative", "positive")), {"negative", "positive"}),
        (Column(['"neg"', '{"choices": ["pos"]}'], nested=True), {"neg", "pos"}),
    ],
)
def test_classes(cells: Any, classes: set[str]) -> None:
    column = cells if isinstance(cells, Column) else Column(cells)
    assert {*taken(Column(list(column.values) * 20, column.names, column.nested)).labels} == classes


def test_spellings_that_became_one_are_named_across_data_sets() -> None:
    spec = spec_of({"train": {"dataset": A}, "test": {"dataset": B}})
    splits = prepare(spec, {A: labelled(["0.0", "1.0", ""] * 10), B: labelled(["0", "1"] * 10, start=100)})
    assert splits.labels == ["0", "1"] and splits.dropped == {"rows without label": 10}
    assert "`1` and `1.0` are taken as one, `1`" in splits.notes and splits.counts == {"0": 20, "1": 20}


def test_truth_values_are_one_with_those_of_a_source() -> None:
    spec = spec_of(sources=[{"data": {"dataset": B}, "label": "label"}])
    splits = prepare(spec, {A: labelled([True, False] * 10), B: labelled(["True", "False"] * 10, start=100)})
    assert splits.labels == ["false", "true"] and {row.label for row in splits.sources[0]} == {"false", "true"}
    assert "`True` and `true` are taken as one, `true`" not in splits.notes  # in Python's spelling, both are `True`


@pytest.mark.parametrize("name", ["nan", "NaN", "<NA>", "NaT", "null", "NULL", "\\N", "#N/A"])
def test_a_missing_value_that_became_text_is_no_class(name: str) -> None:
    splits = taken(["a", "b", name] * 10)
    assert splits.labels == ["a", "b"]
    assert splits.dropped == {f"rows whose label '{name}' is taken as no answer": 10}
    assert f"the label '{name}' of 10 rows is taken as no answer" in said(splits)
    assert taken(["a", "b", name] * 10, label_map={name: name}).counts[name] == 10


def test_no_cell_is_no_answer() -> None:
    assert taken([0.0, 1.0, float("nan"), None] * 10).dropped == {"rows without label": 20}
    assert taken([["a"], ["b"], [], None] * 10).dropped == {"rows without label": 20}


def test_minus_one_beside_numbered_classes_is_no_answer() -> None:
    splits = taken([0, 1, 2, -1] * 10)
    assert splits.labels == ["0", "1", "2"] and "'-1' of 10 rows is taken as no answer" in said(splits)
    assert taken(Column([0, 1, -1] * 10, ("neg", "pos"))).labels == ["neg", "pos"]


@pytest.mark.parametrize("others", [[1], [0, 1], [-2, 0, 1, 2]])
def test_minus_one_may_be_a_class(others: list[int]) -> None:
    splits = taken([-1, *others] * 10)
    assert "-1" in splits.labels
    assert ('leave them out: "label_map": {"-1": null}' in said(splits)) == (others == [0, 1])


def test_a_test_set_without_answers_is_named_as_one() -> None:
    spec = spec_of({"train": {"dataset": A}, "test": {"dataset": B}})
    with pytest.raises(SpecError, match=r"no usable rows .*'-1' is taken as no answer \(10\)") as error:
        prepare(spec, {A: labelled([0, 1] * 10), B: labelled([-1] * 10, start=100)})
    assert error.value.field == "/task/data/test/dataset"


@pytest.mark.parametrize("name", ["None", "none", "NA", "N/A", "n/a", "?", "-", "unknown"])
def test_what_may_be_no_answer_is_doubted(name: str) -> None:
    splits = taken(["a", "b", name] * 10)
    assert name in splits.labels
    assert f"'{name}' (10 rows) may stand for no answer" in said(splits)
    left = taken(["a", "b", name] * 10, label_map={name: None})
    assert left.labels == ["a", "b"] and left.dropped == {"rows that 'label_map' leaves out": 10}


def test_names_that_differ_in_case_are_doubted_with_the_map_that_merges_them() -> None:
    splits = taken(["Positive", "positive", "positive", "negative ", "negative"] * 8)
    assert splits.labels == ["Positive", "negative", "positive"]
    text = said(splits)
    assert "'positive' (16 rows) and 'Positive' (8 rows)" in text and "`negative` and `negative `" in text
    mend = json.loads(text.split('if they are one: "label_map": ')[1].splitlines()[0])
    merged = taken(["Positive", "positive", "positive", "negative ", "negative"] * 8, label_map=mend)
    assert merged.labels == ["negative", "positive"] and not any(
        "alike" in doubt for doubt in doubts(spec_of().task, merged)
    )


def test_signs_and_numbers_are_not_alike() -> None:
    assert "alike" not in said(taken([-1, 1] * 10)) and "alike" not in said(taken(["C", "C++", "C#"] * 10))


def test_a_source_that_says_the_same_in_other_words_is_doubted() -> None:
    spec = spec_of(sources=[{"data": {"dataset": B}, "label": "label"}])
    tables = {A: labelled(["pos", "neg"] * 10), B: labelled(["Pos", "Neg"] * 10, start=100)}
    text = said(prepare(spec, tables), spec)
    assert "sources[0] says 'Neg' for 'neg', 'Pos' for 'pos'" in text
    mend = {"Neg": "neg", "Pos": "pos"}
    spec = spec_of(sources=[{"data": {"dataset": B}, "label": "label", "label_map": mend}])
    splits = prepare(spec, tables)
    assert {row.label for row in splits.sources[0]} == {"neg", "pos"} and "sources[0] says" not in said(splits, spec)


@pytest.mark.parametrize(
    ("cells", "doubted"), [([0, 1], True), ([0, 1, 2], False), ([0, "neg"], False), (["pos", "neg"], False)]
)
def test_a_source_with_as_many_labels_of_other_names_is_doubted(cells: list[Any], doubted: bool) -> None:
    spec = spec_of(sources=[{"data": {"dataset": B}, "label": "label"}])
    tables = {A: labelled(["pos", "neg"] * 10), B: labelled(cells * 10, start=100)}
    text = said(prepare(spec, tables), spec)
    assert ("sources[0] has as many labels, and other ones ('0', '1' for 'neg', 'pos')" in text) == doubted
    assert ('"label_map": {"0": "neg", "1": "pos"}' in text) == doubted


def test_a_source_without_label_beside_a_column_of_labels_is_doubted() -> None:
    table = {A: labelled(["pos", "neg"] * 10), B: labelled(["pos", "neg"] * 10, start=100)}
    for label, doubted in ((None, True), ("label", False)):
        spec = spec_of(sources=[{"data": {"dataset": B}, "label": label}])
        assert ("sources[0] names no 'label'" in said(prepare(spec, table), spec)) == doubted


def test_two_numberings_are_doubted() -> None:
    assert "two ways of labelling" in said(taken(["0", "1", "neg", "pos"] * 10))
    assert "two ways of labelling" not in said(taken(["0", "1"] * 10))


@pytest.mark.parametrize(
    ("names", "several"),
    [
        (["joy", "joy|anger", "anger|fear", "joy|fear"], True),
        (["a|b", "c|d", "e|f"], False),
        (["joy", "fear", "anger", "joy|fear"], False),
    ],
)
def test_labels_with_bars_between_them_are_told_to_be_several(names: list[str], several: bool) -> None:
    mend = 'ask for "problem_type": "multi_label_classification"'
    assert (mend in said(taken(names * 10))) == several
    assert mend not in said(taken(names * 10, **MULTI), **MULTI)


@pytest.mark.parametrize(
    ("cells", "amounts"),
    [
        ([1.4, 2, 3.5], True),
        (["1.4", "2", "-3.5e0"], True),
        ([i * 7 for i in range(25)], True),
        ([i * 7 for i in range(5)], False),
        ([*range(25)], False),
        (["1.4", "2", "much"], False),
    ],
)
def test_numbers_that_may_be_amounts_are_doubted(cells: list[Any], amounts: bool) -> None:
    text = said(taken(cells * 10))
    assert ('for amounts ask for "problem_type": "regression"' in text) == amounts
    assert ("two ways of labelling" in text) == ("much" in cells)
    assert "regression" not in said(taken(cells * 10, **MULTI), **MULTI)


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ([["a", "b"]], "row 3: ['a', 'b'] is a list of 2"),
        (["['a', 'b']"], "list of 2"),
        ([[0, 1, 0]], "list of 3"),
        (["[0 1 0]"], "list of 3"),
        (['{"user_id": "u", "value": "neg"}'], "row 3"),
        (['[{"value": "neg"}]'], "names nothing"),
        (['{"choices": ["a", "b"]}'], '"problem_type": "multi_label_classification"'),
    ],
)
def test_json_is_never_a_class(cells: list[Any], says: str) -> None:
    for one in (["x", "y", *cells, *["x", "y"] * 10], [["x"], ["y"], *cells, *[["x"]] * 10]):
        ((field, message),) = refusal(labelled(one))
        assert field == "/task/label" and says in message


def test_tags_of_words_are_no_class_and_said_to_be_tags() -> None:
    texts = [["Ann", "sings"], ["Bob", "too"]] * 10
    for words, asked in ((texts, True), ([" ".join(text) for text in texts], False)):
        ((_, message),) = refusal(columns(text=words, label=[["B-PER", "O"]] * 20))
        assert ('"type": "token-classification"' in message) == asked


def test_many_classes_by_number_are_no_amounts() -> None:
    numbered = [*range(150), *range(250)]
    assert len(taken(numbered).labels) == 250
    for cells in ([i * 7 for i in numbered], [i + 0.5 for i in numbered]):
        assert '"problem_type": "regression"' in refusal(labelled(cells))[0][1]
    assert "is it the right column?" in refusal(labelled(list(range(400))))[0][1]


def test_many_true_classes_are_planned_and_the_rare_ones_named() -> None:
    cells = [*(f"c{i}" for i in range(150)), *(f"c{i}" for i in range(150)), *(f"d{i}" for i in range(100))]
    splits = taken(cells)
    assert len(splits.labels) == 250 and sum(str(row.label).startswith("d") for row in splits.train) == 100
    assert "250 of 250 labels have fewer than 5 rows ('d0' (1), " in said(splits)
    assert "250 rows train instead of 240" in said(splits)


def test_labels_that_training_does_not_show_are_counted_and_mended() -> None:
    spec = spec_of({"train": {"dataset": A}, "dev": {"dataset": B}, "test": {"dataset": C}})
    tables = {A: labelled(["a", "b"] * 10), B: labelled(["a", "d", "d"], start=50), C: labelled(["a", "c"], start=100)}
    with pytest.raises(SpecError) as caught:
        prepare(spec, tables)
    dev, test = caught.value.faults
    assert (dev.field, test.field) == ("/task/data/dev", "/task/data/test")
    assert "'d' (2)" in dev.message and 'leave out: "label_map": {"c": "a"} or {"c": null}' in test.message
    mended = spec_of(spec.task.data.model_dump(), label_map={"c": None, "d": "b"})
    assert prepare(mended, tables).counts == {"a": 12, "b": 12}
