"""What cells mean as labels and texts: taken as people mean them and said, or refused with the row and a mend."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from core.rows.columns import Column, Table
from core.rows.data_warnings import doubts
from core.rows.splitting.splits import Splits, prepare
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from tests.tables import columns

A, B, C = ("ds_" + digit * 32 for digit in "abc")
MULTI: dict[str, Any] = {"problem_type": "multi_label_classification"}
NUMBER: dict[str, Any] = {"problem_type": "regression"}
WORDS: dict[str, Any] = {"type": "token-classification"}


def spec_of(data: Any = None, sources: Sequence[Mapping[str, Any]] = (), **task: Any) -> JobSpec:
    """A job on data set A, or on `data`."""
    whole = {"data": data or {"dataset": A}, **task}
    return JobSpec.model_validate({"model": "m", "task": whole, "budget": {"params": 0.5}, "sources": list(sources)})


def labelled(cells: Sequence[Any] | Column, start: int = 0) -> dict[str, Column]:
    """Rows of different texts with these labels."""
    count = len(cells.values if isinstance(cells, Column) else cells)
    return dict(columns(text=[f"text {start + i}" for i in range(count)], label=cells))


def taken(cells: Sequence[Any] | Column, **task: Any) -> Splits:
    """The splits of such rows."""
    return prepare(spec_of(**task), {A: labelled(cells)})


def found(splits: Splits) -> Counter[Any]:
    """How many rows have each label."""
    return Counter(row.label for part in (splits.train, splits.dev, splits.test) for row in part)


def refusal(table: Table, spec: JobSpec | None = None, **task: Any) -> list[tuple[str, str]]:
    """Field and message of every fault."""
    with pytest.raises(SpecError) as caught:
        prepare(spec or spec_of(**task), {A: table})
    return [(fault.field, fault.message) for fault in caught.value.faults]


def said(splits: Splits, spec: JobSpec | None = None, **task: Any) -> str:
    """All notes and doubts."""
    return "\n".join([*splits.notes, *doubts((spec or spec_of(**task)).task, splits)])


# --- one class a row ------------------------------------------------------------------------------------------


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


def test_a_source_without_label_beside_a_column_of_labels_is_doubted() -> None:
    table = {A: labelled(["pos", "neg"] * 10), B: labelled(["pos", "neg"] * 10, start=100)}
    for label, doubted in ((None, True), ("label", False)):
        spec = spec_of(sources=[{"data": {"dataset": B}, "label": label}])
        assert ("sources[0] names no 'label'" in said(prepare(spec, table), spec)) == doubted


def test_two_numberings_are_doubted() -> None:
    assert "two ways of labelling" in said(taken(["0", "1", "neg", "pos"] * 10))
    assert "two ways of labelling" not in said(taken(["0", "1"] * 10))


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


# --- several labels -------------------------------------------------------------------------------------------

SETS: list[set[str]] = [{"toxic", "insult"}, {"toxic"}, set(), {"threat", "insult"}, {"insult"}, {"threat"}] * 6
ALL = ["insult", "threat", "toxic"]


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


# --- a column a label -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "yes_no", [(1, 0), ("1", "0"), ("1.0", "0.0"), (True, False), ("yes", "no"), ("True", "False")]
)
def test_several_columns_are_a_label_each(yes_no: tuple[Any, Any]) -> None:
    cells = {name: [yes_no[name not in held] for held in SETS] for name in ALL}
    table = columns(text=[f"t{i}" for i in range(len(SETS))], **cells)
    spec = spec_of(label=ALL)
    assert (spec.task.problem, spec.task.metric) == ("multi_label_classification", "micro_f1")
    splits = prepare(spec, {A: table})
    assert splits.labels == ALL and found(splits) == Counter(tuple(sorted(held)) for held in SETS)
    renamed = prepare(spec_of(label=ALL, label_map={"threat": "insult"}), {A: table})
    assert renamed.labels == ["insult", "toxic"]


def test_a_row_that_lacks_one_of_several_columns_has_no_answer() -> None:
    table = columns(text=[f"t{i}" for i in range(24)], a=["1", "0", "", "-1"] * 6, b=["0", "1", "1", "-1"] * 6)
    splits = prepare(spec_of(label=["a", "b"]), {A: table})
    assert splits.dropped == {"rows without label": 6, "rows whose label '-1' is taken as no answer": 6}


def test_faults_of_several_columns_name_each() -> None:
    table = dict(columns(text=[f"t{i}" for i in range(20)], a=["1", "0"] * 10, b=["1", "0.83"] * 10))
    table |= {"c": Column(["x"] * 20)}
    (b, c) = refusal(table, label=["a", "b", "c"])
    assert b[0] == "/task/label/1" and b[1].startswith("row 2: '0.83' does not say") and c[0] == "/task/label/2"
    assert [field for field, _ in refusal(table, label=["d", "a", "e"])] == ["/task/label/0", "/task/label/2"]
    spec = spec_of(label=["a", "b"])
    assert list(spec.columns()) == [(A, {"/task/text/0": "text", "/task/label/0": "a", "/task/label/1": "b"})]


# --- numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [float, repr, lambda n: f"{n:.2f}".replace(".", ","), lambda n: f" {n} ", lambda n: [n], lambda n: int(n * 4)],
)
def test_numbers_however_they_are_written(write: Callable[[float], Any]) -> None:
    values = [i / 4 for i in range(40)]
    rows = found(taken([write(value) for value in values], **NUMBER))
    assert sorted(rows) in (values, list(range(40)))


def test_decimal_commas_are_said_and_thousands_are_not_guessed() -> None:
    assert "decimal commas are read as points" in taken([f"{i},{i % 10}" for i in range(40)], **NUMBER).notes
    for cells in (["1,234", "12,500"] * 10, ["0,5", "1.5"] * 10):
        ((field, message),) = refusal(labelled(cells), **NUMBER)
        assert field == "/task/label" and "row 1" in message and "point" in message


def test_what_is_no_number() -> None:
    assert "row 1: true" in refusal(labelled([True, False] * 10), **NUMBER)[0][1].casefold()
    numbers = [str(i) for i in range(20)]
    assert taken([*numbers, "nan", ""], **NUMBER).dropped.total() == 2
    assert "row 21: 'NA' is not a finite number" in refusal(labelled([*numbers, "NA"]), **NUMBER)[0][1]
    assert taken([*numbers, "NA"], label_map={"NA": None}, **NUMBER).dropped == {"rows that 'label_map' leaves out": 1}
    assert 7.5 in found(taken([*numbers, "high"], label_map={"high": "7.5"}, **NUMBER))


# --- texts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [list, json.dumps, str], ids=["list", "json", "python"])
def test_texts_that_are_lists_of_words_are_joined(write: Callable[[list[str]], Any]) -> None:
    texts = [["good", "film", str(i)] for i in range(20)]
    splits = prepare(spec_of(), {A: columns(text=[write(words) for words in texts], label=["a", "b"] * 10)})
    assert {row.text for row in splits.train} < {(" ".join(words),) for words in texts}
    assert any("joined by spaces" in note for note in splits.notes)


def test_lists_of_two_texts_are_pairs() -> None:
    texts = [[f"is it {i}", f"it is {i}"] for i in range(20)]
    splits = prepare(spec_of(), {A: columns(text=texts, label=["a", "b"] * 10)})
    assert {row.text for row in splits.train} < {*map(tuple, texts)} and "pairs" in said(splits)
    two = [[f"good{i}", "film"] for i in range(20)]
    assert len(prepare(spec_of(), {A: columns(text=two, label=["a", "b"] * 10)}).train[0].text) == 1


def test_texts_that_merely_begin_like_lists_are_texts() -> None:
    texts = [f"[deleted] {i}" for i in range(19)] + ["['a', 'b']"]
    splits = prepare(spec_of(), {A: columns(text=texts, label=["a", "b"] * 10)})
    assert {text for part in (splits.train, splits.dev, splits.test) for row in part for text in row.text} == {*texts}


def test_numbers_are_texts_as_they_are_written() -> None:
    splits = prepare(spec_of(), {A: columns(text=[*map(float, range(20)), None], label=["a", "b"] * 10 + ["a"])})
    assert ("7",) in {row.text for part in (splits.train, splits.dev, splits.test) for row in part}
    assert splits.dropped == {"rows without text": 1} and "texts: numbers are taken as they are spelled" in splits.notes


def test_what_is_no_text() -> None:
    nested = columns(text=Column(['{"a": 1}'] * 20, nested=True), label=["a", "b"] * 10)
    assert [field for field, _ in refusal(nested)] == ["/task/text/0"]
    numbers = columns(text=[[1, 2]] * 20, label=["a", "b"] * 10)
    assert "row 1: [1, 2] is a list of numbers" in refusal(numbers)[0][1]


# --- words ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [list, json.dumps, str], ids=["list", "json", "python"])
def test_words_and_tags_however_they_are_written(write: Callable[[list[str]], Any]) -> None:
    table = columns(text=[write(["Ann", f"w{i}"]) for i in range(20)], label=[write(["B-PER", "O"])] * 20)
    splits = prepare(spec_of(**WORDS), {A: table})
    assert splits.labels == ["B-PER", "O"] and splits.train[0].label == ("B-PER", "O")


def test_tags_that_are_numbers_of_classes_are_their_names() -> None:
    table = columns(text=[["Ann", f"w{i}"] for i in range(20)], label=Column([[1, 0]] * 20, ("O", "B-PER")))
    assert prepare(spec_of(**WORDS), {A: table}).labels == ["B-PER", "O"]
    bare = columns(text=table["text"], label=[[1, 0]] * 20)
    assert "label_map" in refusal(bare, **WORDS)[0][1]
    assert prepare(spec_of(label_map={"1": "B-PER", "0": "O"}, **WORDS), {A: bare}).labels == ["B-PER", "O"]
    wrong = columns(text=table["text"], label=Column([*[[1, 0]] * 19, [0, 7]], ("O", "B-PER")))
    assert "row 20: word 2: 7 is no place among the 2 names" in refusal(wrong, **WORDS)[0][1]


def test_an_empty_word_stays_so_that_tags_keep_their_places() -> None:
    words = [["Ann", "", f"w{i}"] if i % 2 else ["\u00a0", f"w{i}"] for i in range(20)]
    tags = [["B-PER", "O", "O"] if i % 2 else ["O", "O"] for i in range(20)]
    splits = prepare(spec_of(**WORDS), {A: columns(text=[*words, ["", " "]], label=[*tags, ["O", "O"]])})
    assert {row.text for row in splits.train} < {*map(tuple, words)} and splits.dropped == {"rows without text": 1}


@pytest.mark.parametrize(
    ("words", "tags", "says"),
    [
        (["a", None], ["O", "O"], "row 21: word 2 is None"),
        (["a", "b"], ["O", ""], "row 21: word 2 has an empty tag"),
        (["a", "b\0"], ["O", "O"], "row 21: word 2 holds a NUL"),
        (["a", "b"], ["O"], "row 21: 1 tags for 2 words"),
        (["a", "b"], "O O", "row 21: 'O O' is no list of tags"),
        (["a", "b"], ["O", "-100"], "row 21: word 2 has the tag -100"),
        (["a", "b"], ["nan", "O"], "row 21: word 1 has the tag nan"),
    ],
)
def test_faults_of_words_name_row_and_word(words: Any, tags: Any, says: str) -> None:
    table = columns(text=[*[["Ann", f"w{i}"] for i in range(20)], words], label=[*[["B-PER", "O"]] * 20, tags])
    assert says in refusal(table, **WORDS)[0][1]


@pytest.mark.parametrize(
    "tags", [["S-PER", "O"], ["B-PER", "E-PER"], ["U-PER", "O"], ["B-PER", "L-PER"], ["I-PER", "O"]]
)
def test_tags_of_any_usual_scheme_mark_entities(tags: list[str]) -> None:
    table = columns(text=[["Ann", f"w{i}"] for i in range(20)], label=[tags] * 10 + [["O", "O"]] * 10)
    assert {*prepare(spec_of(**WORDS), {A: table}).labels} == {*tags, "O"}
    odd = columns(text=table["text"], label=[[tags[0], "PER"]] * 10 + [["O", "O"]] * 10)
    ((field, message),) = refusal(odd, **WORDS)
    assert field == "/task/metric" and "'PER' does not" in message


# --- label_map, all faults, and what the model may have seen --------------------------------------------------


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
