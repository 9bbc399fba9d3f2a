"""Honest splits: no duplicates across them, stratified, seeded, and refused when they cannot be made."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from math import exp
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from core.rows.columns import Table
from core.rows.data_warnings import doubts
from core.rows.example import Example
from core.rows.splitting.left_out import CONFLICTS
from core.rows.splitting.splits import Splits, prepare
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from tests.draws import draws
from tests.tables import columns

A, B, C = ("ds_" + digit * 32 for digit in "abc")


def table(*labelled: tuple[str, str | None]) -> Table:
    """Rows of (text, label)."""
    return columns(text=[text for text, _ in labelled], label=[label for _, label in labelled])


def spec_of(data: Any = None, **parts: Any) -> JobSpec:
    """A job on data set A, or on `data`."""
    mine = ("split", "label", "text", "type", "problem_type", "metric")
    task = {"data": data or {"dataset": A}} | {k: v for k, v in parts.items() if k in mine}
    rest = {k: v for k, v in parts.items() if k not in task}
    return JobSpec.model_validate({"model": "m", "task": task, "budget": {"params": 0.5}, **rest})


def keys(part: list[Any]) -> set[str]:
    return {row.key for row in part}


OWN = {"train": {"dataset": A}}
MANY = table(*((f"row {i}", "ab"[i % 2]) for i in range(100)))


@pytest.mark.parametrize("size", [201, 50_000])
def test_labels_are_names_and_no_texts(size: int) -> None:
    kinds = ["a" * size, "b"] if size < 1000 else [f"{i:0200}" for i in range(size // 200 + 1)]
    rows = [(f"row {i}", kinds[i % len(kinds)]) for i in range(20 * len(kinds))]
    with pytest.raises(SpecError, match="is it the right column") as error:
        prepare(spec_of(), {A: table(*rows)})
    assert error.value.field == "/task/label"


@draws(50)
@given(
    labels=st.lists(st.sampled_from("abc"), min_size=30, max_size=200),
    repeats=st.integers(0, 20),
    train=st.floats(0.2, 0.6),
    seed=st.integers(0, 5),
)
def test_splits_are_disjoint_exact_and_stratified(labels: list[str], repeats: int, train: float, seed: int) -> None:
    unique = [(f"text {i}", label) for i, label in enumerate(labels)]
    doubled = [(f" TEXT  {i}", label) for i, label in enumerate(labels[:repeats])]
    spec = spec_of(split={"train": train, "dev": 0.2}, train={"seed": seed})
    try:
        splits = prepare(spec, {A: table(*unique, *doubled)})
    except SpecError as error:
        assert "class" in error.message or "labels" in error.message
        return
    parts = (splits.train, splits.dev, splits.test)
    assert sum(map(len, parts)) == len(labels) == len(keys(splits.train) | keys(splits.dev) | keys(splits.test))
    assert splits.dropped["duplicate rows in the target"] == min(repeats, len(labels))
    assert len(splits.train) == round(train * len(labels))
    whole = Counter(labels)
    for part in parts:
        for label, count in Counter(row.label for row in part).items():
            assert abs(count - whole[str(label)] * len(part) / len(labels)) < 2.5


@pytest.mark.parametrize("rows", [100, 1000])
def test_a_class_of_three_rows_has_one_in_every_part(rows: int) -> None:
    rare = table(*((f"t{i}", "spam" if i % (rows // 3) == 1 else "ham") for i in range(rows - 1)))
    for split in ({}, {"train": 20, "dev": 20, "test": 20}):
        splits = prepare(spec_of(split=split), {A: rare})
        parts = (splits.train, splits.dev, splits.test)
        assert [sum(row.label == "spam" for row in part) for part in parts] == [1, 1, 1]


@pytest.mark.parametrize("multi", [False, True])
def test_a_long_tail_of_labels_is_no_hindrance(multi: bool) -> None:
    """A row of each label trains, though held-out rows alone would have shown some."""
    labels = [f"c{c}" for c in range(60) for _ in range(max(1, 60 // (c + 1)))]
    shown = [f"{name}|c{i % 7}" if multi else name for i, name in enumerate(labels)]
    for seed in range(5):
        problem = {"problem_type": "multi_label_classification"} if multi else {}
        spec = spec_of(split={"train": 80, "dev": 60}, train={"seed": seed}, **problem)
        splits = prepare(spec, {A: table(*((f"t{i}", label) for i, label in enumerate(shown)))})
        assert splits.labels == sorted({f"c{c}" for c in range(60)})
        parts = (splits.train, splits.dev, splits.test)
        assert [len(part) for part in parts] == [80, 60, len(labels) - 140]
        assert len(set.union(*map(keys, parts))) == len(labels)


def test_the_smallest_share_is_a_row() -> None:
    assert len(prepare(spec_of(OWN, split={"dev": 0.001}), {A: MANY}).dev) == 1


def test_texts_with_two_labels_are_counted_apart() -> None:
    again = [("ROW 1", "b"), ("row 2", "b"), ("row 3", "a"), ("row 4", "b")]
    splits = prepare(spec_of(), {A: table(*((f"row {i}", "ab"[i % 2]) for i in range(100)), *again)})
    assert splits.dropped == {CONFLICTS: 3, "duplicate rows in the target": 1}
    assert list(doubts(spec_of().task, splits)) == [f"3 {CONFLICTS}: of each text the first row is used"]


def test_of_a_train_set_the_drawn_rows_show_what_the_test_rows_show() -> None:
    rows = [(f"row {i}", "ab"[i % 2]) for i in range(200)]
    spec = spec_of({"train": {"dataset": A}, "test": {"dataset": B}}, split={"train": 10, "dev": 10})
    tables = {A: table(*rows, ("rare", "c")), B: table(("new", "c"), ("newer", "a"))}
    assert sum(row.label == "c" for row in prepare(spec, tables).train) == 1


def test_splits_stay_what_they_were() -> None:
    """Benchmarks of earlier versions stay comparable."""
    splits = prepare(spec_of(), {A: MANY})
    drawn = [[row.text[0] for row in part[:3]] for part in (splits.train, splits.dev, splits.test)]
    assert drawn == [["row 65", "row 71", "row 77"], ["row 93", "row 14", "row 95"], ["row 59", "row 99", "row 10"]]


def test_a_train_set_beside_dev_and_test_keeps_its_order() -> None:
    spec = spec_of({"train": {"dataset": A}, "dev": {"dataset": B}, "test": {"dataset": C}})
    others = {B: table(("new", "a"), ("newer", "b")), C: table(("old", "a"), ("older", "b"))}
    assert [row.text[0] for row in prepare(spec, {A: MANY, **others}).train] == MANY["text"].values


def test_same_seed_same_split() -> None:
    def texts(splits: Splits) -> list[Any]:
        return [[row.text for row in part] for part in (splits.train, splits.dev, splits.test)]

    one, again = (texts(prepare(spec_of(), {A: MANY})) for _ in range(2))
    other = texts(prepare(spec_of(train={"seed": 1}), {A: MANY}))
    assert one == again != other


def test_sources_never_repeat_a_target_row() -> None:
    source = table(*((f"ROW  {i}", "x") for i in range(50)), *((f"new {i}", "xy"[i % 2]) for i in range(20)))
    spec = spec_of(sources=[{"data": {"dataset": B}}])
    splits = prepare(spec, {A: MANY, B: source})
    assert keys(splits.sources[0]) == {f"new{i}" for i in range(20)}
    assert splits.dropped["source rows that repeat a target row or an earlier source row"] == 50


def test_own_text_never_repeats_a_row_that_is_learned_from_or_measured_on() -> None:
    rows = [f"ROW  {i}" for i in range(100)] + ["a source"] + ["mine", "Mine"] + [f"own {i}" for i in range(12)]
    task = {"data": {"dataset": A}, "unlabelled": {"data": {"dataset": C}}}
    body = {"model": "m", "task": task, "budget": {"params": 0.5}, "sources": [{"data": {"dataset": B}}]}
    source = table(("a source", "x"), *((f"new {i}", "x") for i in range(20)))
    splits = prepare(JobSpec.model_validate(body), {A: MANY, B: source, C: columns(text=rows)})
    assert keys(splits.unlabelled) == {"mine"} | {f"own{i}" for i in range(12)}
    assert len(splits.sources) == 1 and splits.borrowed == [*splits.sources, splits.unlabelled]
    assert splits.dropped == {"unlabelled rows that repeat a labelled row, a source row or an earlier one": 102}


def test_own_text_may_be_what_the_splits_leave() -> None:
    def prepared(test: float) -> Splits:
        split = {"train": 20, "dev": 20, "test": test}
        task = {"data": {"dataset": A}, "split": split, "unlabelled": {"data": {"dataset": A}}}
        return prepare(JobSpec.model_validate({"model": "m", "task": task, "budget": {"params": 0.5}}), {A: MANY})

    assert len(prepared(20).unlabelled) == 40
    with pytest.raises(SpecError, match="has 0 usable rows that do not repeat the target's labelled rows") as caught:
        prepared(60)
    assert caught.value.field == "/task/unlabelled/data/dataset"


CAFE = 'The "caf\u00e9" on 5th, it\u2019s really good \u2014 (no. 7).'


@pytest.mark.parametrize(
    "respelled",
    [
        CAFE.upper() + "  ",
        unicodedata.normalize("NFD", CAFE),
        CAFE.replace("\u00e9", "e"),
        "\ufeff" + CAFE.replace("really", "rea\u00adlly\u200b"),
        CAFE.replace(",", " ,").replace("(", "( ").replace(")", " )").replace(".", " ."),
        CAFE.replace("\u2019", "'").replace("\u2014", "-"),
        CAFE.replace("good", "\uff47\uff4f\uff4f\uff44").replace(" on ", "\u00a0on\u3000"),
    ],
)
def test_a_text_spelled_otherwise_is_the_same_text(respelled: str) -> None:
    assert Example((respelled,), None).key == Example((CAFE,), None).key
    rows = [(f"row {i}", "ab"[i % 2]) for i in range(40)]
    given = spec_of({"train": {"dataset": A}, "test": {"dataset": B}})
    splits = prepare(given, {A: table(*rows, (respelled, "a")), B: table((CAFE, "a"), ("new", "b"))})
    assert splits.dropped["duplicate rows in the target"] == 1 and len(splits.test) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I write C", "I write C++"),
        ("it took 1.5 s", "it took 15 s"),
        ("so :)", "so :("),
        ("か", "が"),
        ("कि", "की"),
        (":)", ":("),
    ],
)
def test_signs_and_letters_that_say_something_else_stay(one: str, other: str) -> None:
    assert Example((one,), None).key != Example((other,), None).key


def test_texts_of_which_nothing_is_seen_are_not_all_one() -> None:
    assert len({Example((text,), None).key for text in ("\u200b", "\u200b\u200b", "\u0301")}) == 3
    assert Example(("a b", "c"), None).key != Example(("a", "b c"), None).key


def test_given_splits_keep_the_test_rows_whole() -> None:
    spec = spec_of({"train": {"dataset": A}, "test": {"dataset": B}})
    test = table(*((f"row {i}", "ab"[i % 2]) for i in range(10)))
    splits = prepare(spec, {A: MANY, B: test})
    assert keys(splits.test) == {f"row{i}" for i in range(10)}
    assert not keys(splits.train) & keys(splits.test) and len(splits.train) + len(splits.dev) == 90


@pytest.mark.parametrize(("train", "count"), [(None, 70), (20, 20), (0.5, 35)])
def test_of_a_train_set_as_many_as_asked_for_are_drawn(train: float | None, count: int) -> None:
    spec = spec_of({"train": {"dataset": A}, "test": {"dataset": B}}, split={"train": train, "dev": 20})
    test = table(*((f"row {i}", "ab"[i % 2]) for i in range(10)))
    splits = prepare(spec, {A: MANY, B: test})
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (count, 20, 10)
    assert not keys(splits.train) & (keys(splits.dev) | keys(splits.test))
    assert abs(sum(row.label == "a" for row in splits.train) - count / 2) <= 1


@pytest.mark.parametrize(
    ("spec", "tables", "field", "says"),
    [
        (spec_of(OWN, split={"dev": 99}), {A: MANY}, "/task/split", "asks for 99 dev + 20 test rows of the train set"),
        (spec_of(OWN, split={"dev": 100, "test": 200}), {A: MANY}, "/task/split", "asks for 100 dev + 200 test rows"),
        (spec_of(OWN, split={"train": 61}), {A: MANY}, "/task/split/train", "where 60 are left"),
        (spec_of(OWN), {A: table(("a", "x"), ("b", "y"))}, "/task/data/train/dataset", "2 usable training rows"),
        (spec_of(), {A: table(("a", "x"), ("b", "y"), ("c", "x"))}, "/task/data/dataset", "3 usable, distinct rows"),
        (spec_of(label="class"), {A: MANY}, "/task/label", "no column 'class'; its columns: text, label"),
        (spec_of(text=["body"]), {A: MANY}, "/task/text/0", "no column 'body'"),
        (spec_of(), {A: table(*((f"t{i}", "x") for i in range(40)))}, "/task/label", "one class only"),
        (spec_of(split={"train": 90, "dev": 20}), {A: MANY}, "/task/split", "has 100 distinct ones"),
        (
            spec_of(split={"train": 0.8, "dev": 0.2}),
            {A: MANY},
            "/task/split",
            "of 100 distinct ones: none is left to test on",
        ),
        (
            spec_of({"train": {"dataset": A}, "test": {"dataset": A}}),
            {A: MANY},
            "/task/data/train/dataset",
            "each of its 100 rows repeats a test row",
        ),
        (
            spec_of({"train": {"dataset": B}, "dev": {"dataset": A}, "test": {"dataset": A}}),
            {A: MANY, B: MANY},
            "/task/data/dev/dataset",
            "each of its 100 rows repeats a test row",
        ),
        (
            spec_of(),
            {A: table(*((f"t{i}", f"id{i}") for i in range(40)))},
            "/task/label",
            "40 classes in 40 rows; is it the",
        ),
        (
            spec_of(),
            {A: table(*((f"t{i}", f"{i / 7}") for i in range(40)))},
            "/task/label",
            '"problem_type": "regression"',
        ),
        (
            spec_of(sources=[{"data": {"dataset": B}, "label": "label"}]),
            {A: MANY, B: table(*((f"t{i}", f"c{i % 1001}") for i in range(3003)))},
            "/sources/0/label",
            "has 1001 classes, and at most 1000 are supported; is it the right column? Leave 'label' out",
        ),
        (
            spec_of({"train": {"dataset": A}, "test": {"dataset": B}}),
            {A: MANY, B: table(("new", "c"), ("newer", "a"))},
            "/task/data/test",
            "no training row shows: 'c'",
        ),
        (
            spec_of(split={"train": 10, "dev": 10}),
            {A: table(*((f"t{i}", f"c{i % 20}") for i in range(40)))},
            "/task/split",
            "use more training rows (10 now, for 20 labels)",
        ),
        (
            spec_of(sources=[{"data": {"dataset": B}}]),
            {A: MANY, B: MANY},
            "/sources/0/data/dataset",
            "0 usable rows",
        ),
    ],
)
def test_refusals(spec: JobSpec, tables: Any, field: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        prepare(spec, tables)
    assert caught.value.field == field
    assert says in caught.value.message


# --- other problems than one class a text ---------------------------------------------------------------------

MULTI, NUMBER, WORDS = (
    {"problem_type": "multi_label_classification"},
    {"problem_type": "regression"},
    {"type": "token-classification"},
)


def tagged(*labelled: tuple[list[str], list[str]]) -> Table:
    """Rows of words with their tags."""
    return columns(text=[json.dumps(words) for words, _ in labelled], label=[json.dumps(tags) for _, tags in labelled])


def test_numbers_that_float32_cannot_hold_are_refused() -> None:
    for huge in ("1e308", "-1e31"):
        rows = table(*((f"t{i}", huge if i == 7 else str(i)) for i in range(60)))
        with pytest.raises(SpecError, match="give it in a larger unit") as error:
            prepare(spec_of(**NUMBER), {A: rows})
        assert error.value.field == "/task/label"


USUAL = [f"{i % 7 / 4 + 0.001 * i}" for i in range(100)]
SPARSE = ["0"] * 90 + [f"{i}" for i in range(1, 11)]


@pytest.mark.parametrize("where", ["/task/label", "/sources/0/label"])
@pytest.mark.parametrize("values", [USUAL, SPARSE])
def test_a_number_beside_which_all_others_look_alike_is_refused(values: list[str], where: str) -> None:
    mistyped = table(*((f"t{i}", "999999999" if i == 50 else value) for i, value in enumerate(values)))
    fine = table(*((f"s{i}", value) for i, value in enumerate(values)))
    target, source = (mistyped, fine) if where == "/task/label" else (fine, mistyped)
    with pytest.raises(SpecError, match="row 51: 999999999 lies so far") as error:
        prepare(spec_of(sources=[{"data": {"dataset": B}, "label": "label"}], **NUMBER), {A: target, B: source})
    assert error.value.field == where


@pytest.mark.parametrize(
    ("values", "doubted"),
    [
        (USUAL, False),
        (SPARSE, False),
        (["0"] * 99 + ["1"], False),
        ([repr(exp(3 * i / 20)) for i in range(-50, 50)], False),
        ([*USUAL[1:], "9000"], True),
        ([*SPARSE[:-1], "9000"], True),
    ],
)
def test_numbers_that_are_mostly_nought_or_reach_far_are_kept(values: list[str], doubted: bool) -> None:
    spec = spec_of(**NUMBER)
    splits = prepare(spec, {A: table(*((f"t{i}", value) for i, value in enumerate(values)))})
    assert any("the number 9000 lies far" in said for said in doubts(spec.task, splits)) == doubted


def test_what_few_test_rows_cannot_say_is_said() -> None:
    cells = [*(["ham"] * 94), *(["spam"] * 3), "odd", "odder", "oddest"]
    splits = prepare(spec_of(), {A: table(*((f"t{i}", cell) for i, cell in enumerate(cells)))})
    most, scarce, few, none = doubts(spec_of().task, splits)
    assert scarce.startswith("4 of 5 labels have fewer than 5 rows ('odd' (1), 'odder' (1), 'oddest' (1), 'spam' (3))")
    assert most.startswith("94% of the rows are 'ham', so that always saying it is as accurate")
    assert len(list(doubts(spec_of(metric="f1").task, splits))) == 3
    assert few == "class 'spam' has 1 test row (fewer than 10): macro F1 and balanced accuracy say little"
    assert "without a test row ('odd" in none
    assert not list(doubts(spec_of().task, prepare(spec_of(), {A: MANY})))


@pytest.mark.parametrize(
    ("positive", "rows", "metric", "said"),
    [
        (
            71,
            100,
            "accuracy",
            "71% of the rows are 'yes', and 17 training rows are not: a model that always says 'yes'",
        ),
        (71, 100, "f1", ""),
        (710, 1000, "accuracy", ""),  # enough of the others to learn from
        (55, 100, "accuracy", ""),
    ],
)
def test_few_rows_of_which_most_are_alike_are_doubted_before_they_are_trained_on(
    positive: int, rows: int, metric: str, said: str
) -> None:
    cells = [(f"t{i}", "yes" if i < positive else "no") for i in range(rows)]
    found = [one for one in doubts(spec_of(metric=metric).task, prepare(spec_of(), {A: table(*cells)})) if "%" in one]
    assert [one[: len(said)] for one in found] == [said] * bool(said)
    assert all("'balanced_accuracy' or 'f1'" in one and "more rows of the others" in one for one in found)


def test_labels_as_an_array_or_with_bars() -> None:
    cells = ['["b", "a"]', "a|b", "b | a", "[]", "b", " c "] * 5
    splits = prepare(spec_of(**MULTI), {A: table(*((f"t{i}", cell) for i, cell in enumerate(cells)))})
    assert splits.labels == ["a", "b", "c"]
    found = Counter(row.label for part in (splits.train, splits.dev, splits.test) for row in part)
    assert found == {("a", "b"): 15, (): 5, ("b",): 5, ("c",): 5}


@draws(30)
@given(st.lists(st.sets(st.sampled_from("abc")), min_size=40, max_size=150), st.integers(0, 3))
def test_rare_labels_are_dealt_out_in_proportion(sets: list[set[str]], seed: int) -> None:
    sets = [{"a"}, {"b"}, {"c"}, *sets]
    rare = [{"rare", *labels} for labels in sets[:10]]
    rows = table(*((f"t{i}", json.dumps(sorted(labels))) for i, labels in enumerate([*rare, *sets])))
    splits = prepare(spec_of(split={"train": 0.6, "dev": 0.2}, train={"seed": seed}, **MULTI), {A: rows})
    held = [sum("rare" in row.label for row in part) for part in (splits.train, splits.dev, splits.test)]  # type: ignore
    assert sum(held) == 10 and all(abs(n - share) < 2.5 for n, share in zip(held, (6, 2, 2), strict=True))


@draws(30)
@given(st.lists(st.integers(-5, 5) | st.floats(-1e3, 1e3), min_size=60, max_size=150, unique=True), st.integers(0, 3))
def test_numbers_are_split_by_their_ranks(values: list[float], seed: int) -> None:
    rows = table(*((f"t{i}", repr(value)) for i, value in enumerate(values)))
    splits = prepare(spec_of(train={"seed": seed}, **NUMBER), {A: rows})
    assert splits.labels == ["label"]
    middle = sorted(values)[len(values) // 2]
    for part in (splits.train, splits.dev, splits.test):
        assert abs(sum(row.label < middle for row in part) - len(part) / 2) <= 6  # type: ignore[operator]


def test_words_are_duplicates_whatever_their_tags() -> None:
    some = [([f"w{i}", "sings"], ["B-PER", "O"] if i % 2 else ["O", "O"]) for i in range(40)]
    splits = prepare(spec_of(**WORDS), {A: tagged(*some, (["W3", "sings"], ["O", "O"]))})
    assert splits.labels == ["B-PER", "O"] and splits.dropped[CONFLICTS] == 1
    assert len(splits.train[0].text) == 2


NUMBERS = [(f"t{i}", str(i)) for i in range(20)]
TAGGED = [([f"w{i}", "x"], ["NOUN", "VERB"]) for i in range(20)]


@pytest.mark.parametrize(
    ("spec", "rows", "field", "says"),
    [
        (spec_of(**NUMBER), table(*NUMBERS, ("a", "low")), "/task/label", "row 21: 'low' is not a finite number"),
        (spec_of(**NUMBER), table(*NUMBERS, ("a", "1e999")), "/task/label", "row 21"),
        (spec_of(**NUMBER), table(*NUMBERS, ("a", "inf")), "/task/label", "give one such as 3.5"),
        (spec_of(**NUMBER), table(*((text, "7") for text, _ in NUMBERS)), "/task/data/dataset", "one value only (7)"),
        (spec_of(**NUMBER), table(*((t, f"{1e6 + int(n)}") for t, n in NUMBERS)), "/task/label", "subtract"),
        (spec_of(**MULTI), table(*NUMBERS, ("a", "x||y")), "/task/label", "row 21: names an empty label"),
        (
            spec_of(**MULTI),
            table(*NUMBERS, ("a", '["x", null]')),
            "/task/label",
            "row 21: '[\"x\", null]' names nothing",
        ),
        (spec_of(**MULTI), table(*((text, "[]") for text, _ in NUMBERS)), "/task/label", "one class only"),
        (spec_of(**WORDS), table(*NUMBERS), "/task/text/0", "row 1: 't0' is no list of words; give one such"),
        (spec_of(**WORDS), tagged(*TAGGED, (["a", "b"], ["O"])), "/task/label", "row 21: 1 tags for 2 words"),
        (spec_of(**WORDS), tagged(*TAGGED), "/task/metric", "ask for 'token_accuracy'"),
        (spec_of(**WORDS), tagged(*TAGGED, (["a"], ["N\0"])), "/task/label", "NUL"),
        (
            spec_of(metric="token_accuracy", sources=[{"data": {"dataset": A}, "text": ["text", "label"]}], **WORDS),
            tagged(*TAGGED),
            "/sources/0/text",
            "one column, of arrays of words",
        ),
    ],
)
def test_cells_that_do_not_hold_what_the_problem_asks_for(spec: JobSpec, rows: Table, field: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        prepare(spec, {A: rows})
    assert caught.value.field == field
    assert says in caught.value.message
