"""What cells mean as texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from core.rows.columns import Column
from core.rows.splitting.splits import prepare
from tests.rows.labels.helpers import A, refusal, said, spec_of
from tests.tables import columns


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
