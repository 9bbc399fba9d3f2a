"""`Graph`: which channels of a network go together, and where they lie in its weights. Plain data, no tensors.

A *unit* is a class of channels that must go together (what is added to each other, passes a depthwise convolution, or
is a group of a grouped one). A *block* is the units that lie in the same tensors equally often, so that sizes depend on
how many units each block keeps alone. After UPSCALE (Wan et al., ICML 2023, arXiv 2307.08771): its constrained mode,
and, where weights name readers, its unconstrained one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.domains.anatomy import Anatomy, Block
from core.domains.channels.own_readers.columns import Columns
from core.domains.channels.own_readers.keep import Keeping
from core.domains.channels.weight import PINNED, Side, Weight
from core.domains.structure import Structure


@dataclass(frozen=True)
class Graph:
    """What channels can go of one network, at one size of picture."""

    anatomy: Anatomy
    weights: Mapping[str, Weight]  # by the name in the state dict; of tied ones the first
    macs: int  # multiply-accumulates of the whole network for one picture, as torch's FlopCounterMode / 2
    # Of two tensors, as in attention: the unit that each part lies in, or PINNED, and what it is multiplied.
    products: tuple[tuple[Side, int], ...] = ()

    @property
    def readers(self) -> dict[str, Side]:
        """Weight of each convolution (groups 1) or linear layer that reads units -> the unit of each input column."""
        return {name: w.sides[1] for name, w in self.weights.items() if w.positions and w.groups == 1 and 1 in w.sides}

    @property
    def producers(self) -> dict[str, Side]:
        """Weight of each convolution (groups 1) or linear layer that writes units -> the unit of each output row."""
        return {name: w.sides[0] for name, w in self.weights.items() if w.positions and w.groups == 1 and 0 in w.sides}

    @cached_property
    def channels(self) -> tuple[int, ...]:
        """Of each block: how many channels a unit has in the first tensor that has any of it."""
        found = np.zeros(len(self.anatomy.blocks), np.int64)
        for units in dict.fromkeys(units for w in self.weights.values() for units in w.sides.values()):
            counts = np.bincount(np.array(units) + 1, minlength=self.anatomy.size + 1)[1:]
            there = counts > 0
            first = np.zeros_like(found)
            first[self.owner[there]] = counts[there]
            found = np.where(found, found, first)
        return tuple(found.tolist())

    @cached_property
    def columns(self) -> Columns:
        """Which reader reads which units, where each may read its own."""
        return Columns.of(self.weights)

    @cached_property
    def owner(self) -> NDArray[np.int64]:
        """The block of each unit, (units,)."""
        return np.repeat(np.arange(len(self.anatomy.blocks)), [block.size for block in self.anatomy.blocks])

    def has(self, structure: Structure) -> NDArray[np.bool_]:
        """Whether each unit is kept, (units + 1,): the last is PINNED's."""
        kept = np.zeros(self.anatomy.size + 1, np.bool_)
        kept[PINNED] = True
        for span, units in zip(self.anatomy.spans, structure.kept, strict=True):
            kept[span][list(units)] = True
        return kept

    def keeping(self, structure: Structure) -> Keeping:
        """What stays of each weight, and in which order."""
        return Keeping(self.anatomy, self.has(structure), structure)

    def cut(self, structure: Structure) -> Graph:
        """Give the graph of the network that was cut to `structure`: fewer units, counted anew."""
        has, keeping = self.has(structure), self.keeping(structure)
        new = np.append(np.cumsum(has[:-1]) - 1, PINNED)
        sizes = zip(self.anatomy.blocks, structure.kept, strict=True)
        blocks = tuple(replace(block, size=len(kept)) for block, kept in sizes)
        weights, known = {}, dict[tuple[Side, str], Side]()  # sides are many times the same

        def renumber(w: Weight, side: int) -> Side:
            key = w.sides[side], w.reader if side == 1 else ""
            if key not in known:
                known[key] = tuple(new[np.array(key[0], np.int64)[keeping.places(w, side)]].tolist())
            return known[key]

        for name, w in self.weights.items():
            sides = {side: renumber(w, side) for side in w.sides}
            shape = tuple(len(sides[i]) if i in sides else size for i, size in enumerate(w.shape))
            groups = w.groups * shape[0] // w.shape[0] if w.groups > 1 else 1
            weights[name] = replace(w, shape=shape, sides=sides, groups=groups)
        kept_of = {units: np.array(units)[has[np.array(units)]] for units, _ in self.products}
        products = tuple((tuple(new[kept_of[units]].tolist()), price) for units, price in self.products)
        small = Graph(Anatomy(blocks), weights, 0, products)
        return replace(small, macs=self.macs - self._multiplied + small._multiplied)

    @property
    def _multiplied(self) -> int:
        weights = sum(w.positions * int(np.prod(w.shape)) for w in self.weights.values())
        return weights + sum(price * len(units) for units, price in self.products)

    def to_json(self) -> dict[str, Any]:
        """As plain lists; the units of a dimension as runs [first, how many, step], each such list once."""
        table: dict[Side, int] = {}
        weights = {}
        for name, w in self.weights.items():
            sides = {str(i): table.setdefault(units, len(table)) for i, units in w.sides.items()}
            weights[name] = [list(w.shape), sides, w.kind, w.positions, w.groups, w.saved, w.reader, w.free]
        blocks = [[block.name, block.kind, block.size] for block in self.anatomy.blocks]
        products = [[table.setdefault(units, len(table)), price] for units, price in self.products]
        found: dict[str, Any] = {"macs": self.macs, "blocks": blocks, "sides": [*map(_runs, table)]}
        return found | {"weights": weights, "products": products}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Graph:
        """Inverse of `to_json`."""
        table = [_units(runs) for runs in value["sides"]]
        weights = {
            name: Weight(tuple(shape), {int(i): table[k] for i, k in sides.items()}, *rest)
            for name, (shape, sides, *rest) in value["weights"].items()
        }
        products = tuple((table[k], price) for k, price in value["products"])
        return cls(Anatomy(tuple(Block(*block) for block in value["blocks"])), weights, value["macs"], products)


def _runs(units: Sequence[int]) -> list[list[int]]:
    """[7, 7, 8, 9] -> [[7, 2, 0], [8, 2, 1]]: first, how many, step."""
    runs: list[list[int]] = []
    for unit in units:
        if runs:
            first, count, step = runs[-1]
            gap = unit - first - (count - 1) * step
            if gap in (0, 1) and (count == 1 or gap == step):
                runs[-1] = [first, count + 1, gap]
                continue
        runs.append([unit, 1, 0])
    return runs


def _units(runs: Iterable[Sequence[int]]) -> Side:
    """Inverse of `_runs`."""
    return tuple(first + i * step for first, count, step in runs for i in range(count))
