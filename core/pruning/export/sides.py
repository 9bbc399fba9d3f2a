"""Test pictures that changed sides: right by the dense model and wrong by the pruned one, or the other way round.

They are for `report.html` alone, small and few; no other file of ours has them, nor a log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from core.pruning.training.batches import Rows
from core.rows.example import Example
from core.rows.image.decode import quietly, thumbnail
from core.rows.image.picture import read_bytes

MOST = 6  # pictures that went one way, of those that are shown; some 3 kB each


@dataclass(frozen=True)
class Shown:
    """One of them: a thumbnail as a data URI, its name in the data set, its label, and what either model says."""

    thumbnail: str
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
    """Compare the logits of either model, (N, C), on the test pictures, in their order.

    An answer in several labels is right where all of them are.
    """
    before, after = (rows.task.said(logits, rows.labels) for logits in (dense, pruned))
    found = [*zip(examples, before, after, strict=True)]
    right = [(_same(example.label, one), _same(example.label, other)) for example, one, other in found]

    def side(way: tuple[bool, bool]) -> Side:
        there = [one for one, rights in zip(found, right, strict=True) if rights == way]
        first = there[:MOST]
        with quietly():
            small = {i: thumbnail(data) for i, data in read_bytes([example.text[0] for example, *_ in first])}
        shown = [
            Shown(small[i], example.text[0].name, *map(_words, (example.label, *said)))
            for i, (example, *said) in enumerate(first)
        ]
        return Side(len(there), shown)

    return Sides(lost=side((True, False)), gained=side((False, True)))


def _same(label: Any, said: Any) -> bool:
    return {*_each(label)} == {*_each(said)}


def _words(said: Any) -> str:
    return ", ".join(map(str, _each(said))) or "none"


def _each(said: Any) -> Iterable[Any]:
    return said if isinstance(said, list | tuple) else [said]
