"""Which head a job starts with, and what to write where names alone differ."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from core.domains.head import choose_head

CLASSES = "single_label_classification"


def test_a_head_that_knows_the_labels_keeps_its_order() -> None:
    head = choose_head(["pos", "neg"], ["neg", "pos"], CLASSES)
    assert (head.own, head.labels, head.says, head.hint) == (True, ("pos", "neg"), "its own head for 2 labels", None)


@pytest.mark.parametrize("known", [[], ["joy", "fear"], ["neg", "neutral", "pos"]])
def test_any_other_gives_way_to_a_fresh_one(known: list[str]) -> None:
    head = choose_head(known, ["neg", "pos"], CLASSES)
    assert (head.own, head.labels) == (False, ("neg", "pos")) and head.says.startswith("a fresh head for 2 labels: ")


@pytest.mark.parametrize(
    ("known", "labels", "wanted", "sure"),
    [
        (["LABEL_0", "LABEL_1"], ["neg", "pos"], {"neg": "LABEL_0", "pos": "LABEL_1"}, False),
        (["NEGATIVE", "POSITIVE"], ["negative", "positive"], {"negative": "NEGATIVE", "positive": "POSITIVE"}, True),
        (["Positive", "negative"], ["negative", "positive"], {"positive": "Positive"}, True),
        (
            ["World News", "sci/tech"],
            ["SciTech", "world-news"],
            {"SciTech": "sci/tech", "world-news": "World News"},
            True,
        ),
        (["neg", "pos"], ["0", "1"], {"0": "neg", "1": "pos"}, False),
        ([f"c{i}" for i in range(11)], sorted(map(str, range(11))), {str(i): f"c{i}" for i in range(11)}, False),
    ],
)
def test_the_map_is_spelled_out(
    known: Sequence[str], labels: Sequence[str], wanted: dict[str, str], sure: bool
) -> None:
    hint = choose_head(known, labels, CLASSES).hint
    assert hint is not None and ("if these mean the same" in hint) is not sure
    start = hint.index('"label_map": ') + len('"label_map": ')
    assert json.JSONDecoder().raw_decode(hint[start:])[0] == wanted


def test_classes_of_its_own_that_no_row_shows_are_told() -> None:
    head = choose_head(["neg", "neutral", "pos"], ["neg", "pos"], CLASSES)
    assert not head.own and head.hint is not None
    assert head.hint.startswith("the model's own head knows neutral, too, which no training row shows")
    assert choose_head(["neg", "neutral", "pos"], ["neg", "joy"], CLASSES).hint is None


def test_a_long_map_is_cut() -> None:
    hint = choose_head([f"LABEL_{i}" for i in range(500)], [f"class {i}" for i in range(500)], CLASSES).hint
    assert hint is not None and ", ...}" in hint and len(hint) < 3000


def test_a_number_has_one_output() -> None:
    assert choose_head(["LABEL_0"], ["stars"], "regression").own
    assert not choose_head(["a", "b"], ["stars"], "regression").own
    assert choose_head(["a", "b"], ["stars"], "regression").hint is None
