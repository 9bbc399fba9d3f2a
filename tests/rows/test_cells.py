"""One value has one spelling; a list is a list, however it was written down; and no text is dear to read."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from core.rows.cells import opened, spell


@pytest.mark.parametrize(
    ("value", "name"),
    [
        *((value, "1") for value in (1, 1.0, "1", "1.0", " 1.00 ", "1.", "+1.0")),
        *((value, "0") for value in (0, 0.0, -0.0, "0.0", "-0.0")),
        (-1.0, "-1"),
        (True, "true"),
        (False, "false"),
        (1.5, "1.5"),
        ("1.10", "1.10"),  # a version, maybe
        ("Negative ", "Negative"),
        ("v1.0", "v1.0"),
        *((value, "good") for value in ("good", "good\u200b", "\u200fgood", "\ufeff go\u00adod", "good\ufe0f\u200d")),
        ("\u200b1.0", "1"),
        ("\u200b ", ""),
        ("caf\u00e9", "caf\u00e9"),
        ("\u2764\ufe0f", "\u2764\ufe0f"),  # a heart in colour
    ],
)
def test_one_value_has_one_spelling(value: Any, name: str) -> None:
    assert spell(value) == name


def test_numbers_of_classes_are_their_names() -> None:
    assert [spell(value, ("neg", "pos")) for value in (0, 1, 1.0)] == ["neg", "pos", "pos"]
    for place in (2, -2):
        with pytest.raises(ValueError, match="no place among the 2 names"):
            spell(place, ("neg", "pos"))


NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), max_size=5)


@settings(max_examples=100, deadline=None)
@given(NAMES)
def test_lists_are_read_however_they_are_written(names: list[str]) -> None:
    for written in (names, json.dumps(names), json.dumps(names, ensure_ascii=False), str(names)):
        assert opened(written) == names
    if names:
        assert opened(str(tuple(names))) == names
        assert opened(str({"choices": names})) == opened({"choices": names}) == names
        assert sorted(opened(str({*names}))) == sorted({*names})  # type: ignore[arg-type]


def test_arrays_that_numpy_prints_are_read() -> None:
    assert opened(str(np.array(["a", "b c"]))) == ["a", "b c"]  # which Python would read as one text
    assert opened(str(np.array([0, 1, 0]))) == [0, 1, 0]
    assert opened(str(np.array([0.0, 1.0]))) == [0, 1]
    assert opened(str(np.arange(40))) == list(range(40))  # in several lines


def test_annotations_are_their_names() -> None:
    assert opened({"choices": ["a", "b"]}) == opened('{"choices": ["a", "b"]}') == ["a", "b"]
    assert opened({"choices": "a"}) == "a"
    assert opened('{"a": 1, "b": 0.0, "c": true}') == ["a", "c"]  # spaCy's cats


@pytest.mark.parametrize("text", ["[URGENT] read", "[URGENT]", "(1)", "{x}", "{1}", "a|b", "", "nan", "[1, 2"])
def test_other_texts_are_themselves(text: str) -> None:
    assert opened(text) == text


@pytest.mark.parametrize(
    "cell",
    ['{"user": "u"}', '[{"value": "neg"}]', "[[1], [2]]", "['a', 'b'", '{"a": 1', '["a", null]', {"choices": {}}, "{}"],
)
def test_objects_that_name_nothing_are_refused(cell: Any) -> None:
    with pytest.raises(ValueError, match=r"name|none: mend it"):
        opened(cell)


DEAR = [
    *("[" * 100_000, "{" * 2000, "{'a': " + "-" * 1900 + "1}", '{"a":' * 16_000),
    *("[" + "1" * 99_999, "['" + "a" * 99_999, "[" + "1 " * 50_000, "['a'" + " " * 99_000),
    *("[" + "'a' " * 25_000 + "x]", "('" + "\\'" * 49_000),
]


@pytest.mark.parametrize("text", DEAR, ids=lambda text: text[:8])
def test_no_text_is_dear_to_read(text: str) -> None:
    started = time.process_time()
    with suppress(ValueError):
        assert opened(text) == text
    assert time.process_time() - started < 2  # CPU; a slip of a pattern would take minutes
