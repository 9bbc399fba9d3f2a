"""What cells mean as words and their tags."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from core.rows.columns import Column
from core.rows.splitting.splits import prepare
from tests.rows.labels.helpers import WORDS, A, refusal, spec_of
from tests.tables import columns


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
