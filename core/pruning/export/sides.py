"""Test rows that changed sides: right by the dense model and wrong by the pruned one, or the other way round.

They are for `report.html` alone, small and few; no log has them, and pictures no other file of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from torch import Tensor

from core.pruning.training.batches import Rows
from core.rows.example import Example
from core.rows.image.decode import quietly, thumbnail
from core.rows.image.picture import read_bytes

MOST = 6  # rows that went one way, of those that are shown; pictures have some 3 kB each
CHARACTERS = 200  # of a text


@dataclass(frozen=True)
class Shown:
    """One of them: a thumbnail as a data URI and its name in the data set, or a text; label, what either model says."""

    thumbnail: str | None
    name: str
    label: str
    dense: str
    pruned: str


@dataclass(frozen=True)
class Side:
    """Those that went one way: how many, and the first of them."""

    count: int
    shown: list[Shown]


@dataclass(frozen=True)
class Sides:
    """`lost`: the dense model alone is right; `gained`: the pruned one alone is."""

    lost: Side
    gained: Side


def changed_sides(examples: Sequence[Example], rows: Rows, dense: Tensor, pruned: Tensor) -> Sides:
    """Compare the logits of either model, (N, C), on the test rows, in their order.

    An answer in several labels is right where all of them are.
    """
    before, after = (rows.task.said(logits, rows.labels) for logits in (dense, pruned))
    found = [*zip(examples, before, after, strict=True)]
    right = [(_same(example.label, one), _same(example.label, other)) for example, one, other in found]

    def side(way: tuple[bool, bool]) -> Side:
        there = [one for one, rights in zip(found, right, strict=True) if rights == way]
        first = there[:MOST]
        shown = zip(_looks([example for example, *_ in first]), first, strict=True)
        return Side(
            len(there), [Shown(*look, *map(_words, (example.label, *said))) for look, (example, *said) in shown]
        )

    return Sides(lost=side((True, False)), gained=side((False, True)))


def _looks(examples: Sequence[Example]) -> list[tuple[str | None, str]]:
    """What there is to see of each row: a thumbnail, and a name or text."""
    if not examples or isinstance(examples[0].text[0], str):
        return [(None, shorten(" | ".join(example.text), CHARACTERS, placeholder=" ...")) for example in examples]
    with quietly():
        small = {i: thumbnail(data) for i, data in read_bytes([example.text[0] for example in examples])}
    return [(small[i], example.text[0].name) for i, example in enumerate(examples)]


def _same(label: Any, said: Any) -> bool:
    return {*_each(label)} == {*_each(said)}


def _words(said: Any) -> str:
    return ", ".join(map(str, _each(said))) or "none"


def _each(said: Any) -> Iterable[Any]:
    return said if isinstance(said, list | tuple) else [said]
