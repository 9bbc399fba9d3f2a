"""What channels cost: exact, in the number of units that each block keeps.

A weight has kept rows * kept columns * the rest; both are sums over blocks, so a cost is a quadratic form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.domains.anatomy import Anatomy
from core.domains.channels.graph import Graph
from core.domains.channels.own_readers.columns import Columns
from core.domains.channels.weight import Side, Weight
from core.domains.structure import Structure
from core.domains.weights import FLOAT_BYTES, TYPES, file_bytes
from core.spec.job import Precision

Array = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Own:
    """What the columns of readers cost that may leave some out: of each price * rows * input channels of the column."""

    columns: Columns
    price: Array  # (readers,)
    rows: Array  # (readers, 1 + blocks)

    def each(self, counts: ArrayLike) -> Array:
        """What each column costs where each block keeps so many units, (columns,)."""
        kept = np.append(1, np.asarray(counts, np.int64))
        return np.asarray((self.price * (self.rows @ kept))[self.columns.reader] * self.columns.count)

    def spared(self, counts: ArrayLike, out: NDArray[np.bool_]) -> int:
        """What is spared by columns, of units that are kept, that readers leave out."""
        return int(self.each(counts)[out].sum())


@dataclass(frozen=True, eq=False)
class Bilinear:
    """One kind of cost: the sum over terms of price * rows * columns, each of these a sum over blocks."""

    anatomy: Anatomy
    price: Array  # (terms,)
    rows: Array  # (terms, 1 + blocks): what stays, and how many a unit of each block has
    columns: Array  # alike
    outside: int  # of weights that no unit lies in
    channels: tuple[int, ...]  # of a unit of each block, in a tensor
    spared: int = 0
    measured: bool = False
    own: Own | None = None  # where readers may read their own channels

    @cached_property
    def sizes(self) -> Array:
        """Units of each dense block."""
        return np.array([block.size for block in self.anatomy.blocks], np.int64)

    def at(self, counts: ArrayLike) -> int:
        """Cost, but for `outside`, where each block keeps so many units, (blocks,)."""
        kept = np.append(1, np.asarray(counts, np.int64))
        return int((self.price * (self.rows @ kept) * (self.columns @ kept)).sum())

    def of(self, structure: Structure) -> int:
        """Cost of the weights that units lie in."""
        counts = [len(units) for units in structure.kept]
        spared = self.own.spared(counts, self.own.columns.left_out(structure)) if self.own else 0
        return self.at(counts) - spared

    def model(self, structure: Structure) -> int:
        """Cost of the whole model."""
        return self.of(structure) + self.outside

    def marginal(self, counts: ArrayLike) -> Array:
        """What one unit more costs in each block, (blocks,), where they keep so many."""
        kept = np.append(1, np.asarray(counts, np.int64))
        rows, columns = self.price * (self.rows @ kept), self.price * (self.columns @ kept)
        both = (self.price[:, None] * self.rows[:, 1:] * self.columns[:, 1:]).sum(0)
        return np.asarray(rows @ self.columns[:, 1:] + columns @ self.rows[:, 1:] + both)

    @cached_property
    def shared(self) -> list[float]:
        """Of each block what a unit costs in the dense model, to weigh against its worth."""
        return [float(price) for price in self.marginal(self.sizes - 1)]

    @cached_property
    def dense(self) -> int:
        """Cost of the weights that units lie in, with all of them."""
        return self.at(self.sizes)

    @property
    def before(self) -> int:
        """Cost of the whole dense model."""
        return self.dense + self.outside + self.spared

    @property
    def smallest(self) -> int:
        """The least that any structure costs: a unit of each block."""
        return self.least()

    def least(self, multiple: int = 1) -> int:
        """The least where widths are multiples of so many channels."""
        return self.at(np.minimum(self.sizes, self.steps(multiple)))

    def steps(self, multiple: int) -> Array:
        """Of each block the least number of units whose channels are a multiple; for `least` all, if it has fewer."""
        return multiple // np.gcd(multiple, np.array(self.channels, np.int64))

    @property
    def removable(self) -> float:
        """What part of the whole model's cost can go at all."""
        return (self.dense - self.smallest) / max(1, self.before)


@dataclass(frozen=True, eq=False)
class ChannelCosts:
    """Every cost of one network."""

    params: Bilinear
    macs: Bilinear  # multiply-accumulates of convolutions and linear layers, for one picture
    bytes: Bilinear  # of the weights' file; `before`: of the dense one, in float32

    @classmethod
    def of(cls, graph: Graph, precision: Precision = "float32") -> ChannelCosts:
        """From what a graph says of the weights.

        A file's header is the dense model's, the longest: the dense file is counted to the byte, a cut one's is
        shorter by some digits.
        """
        params = _cost(graph, lambda weight: int(weight.kind == "parameter"))
        macs = _cost(graph, lambda weight: weight.positions, graph.products)
        width = FLOAT_BYTES[TYPES[precision]]
        size = _cost(graph, lambda weight: width * (weight.saved and weight.kind != "integers"))
        saved = {name: weight for name, weight in graph.weights.items() if weight.saved}
        floats = {name: weight.shape for name, weight in saved.items() if weight.kind != "integers"}
        integers = {name: weight.shape for name, weight in saved.items() if weight.kind == "integers"}
        exact, whole = file_bytes(floats, "float32", integers), file_bytes(floats, precision, integers)
        return cls(
            params(sum(int(np.prod(w.shape)) for w in graph.weights.values() if w.kind == "parameter")),
            macs(graph.macs),
            replace(size(whole), spared=exact - whole),
        )


def _cost(
    graph: Graph, price: Callable[[Weight], int], products: Iterable[tuple[Side, int]] = ()
) -> Callable[[int], Bilinear]:
    """Total of the dense model -> a kind of cost, by the price of a number of each weight, and of parts of products."""
    terms: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    counted: dict[Side, tuple[int, ...]] = {}
    blocks = len(graph.anatomy.blocks)

    def count(units: Side) -> tuple[int, ...]:
        if units not in counted:
            named = np.array(units, np.int64)
            owners = np.append(graph.owner, -1)[named]
            each = np.bincount(owners + 1, minlength=blocks + 1)
            each[1:] //= _distinct(named, owners, blocks)
            counted[units] = tuple(each.tolist())
        return counted[units]

    for weight in graph.weights.values():
        if weight.sides and (one := price(weight)):
            sides = [*map(count, weight.sides.values()), (1, *[0] * blocks)][:2]
            rest = int(np.prod([size for i, size in enumerate(weight.shape) if i not in weight.sides]))
            terms[sides[0], sides[1]] = terms.get((sides[0], sides[1]), 0) + one * rest

    for units, one in products:
        sides = [count(units), (1, *[0] * blocks)]
        terms[sides[0], sides[1]] = terms.get((sides[0], sides[1]), 0) + one

    def finish(total: int) -> Bilinear:
        rows, columns = (_matrix([pair[i] for pair in terms], blocks) for i in (0, 1))
        prices = np.array([*terms.values()], np.int64)
        own = _own(graph, price, count) if graph.columns.paths else None
        found = Bilinear(graph.anatomy, prices, rows, columns, 0, graph.channels, own=own)
        return replace(found, outside=total - found.dense)

    return finish


def _own(graph: Graph, price: Callable[[Weight], int], count: Callable[[Side], tuple[int, ...]]) -> Own:
    """What columns cost, by the price of a number of each weight."""
    readers, blocks = [graph.weights[name] for name in graph.columns.names], len(graph.anatomy.blocks)
    prices = np.array([price(weight) * prod(weight.shape[2:]) for weight in readers], np.int64)
    rows = [count(weight.sides[0]) if 0 in weight.sides else (weight.shape[0], *[0] * blocks) for weight in readers]
    return Own(graph.columns, prices, _matrix(rows, blocks))


def _distinct(units: Array, owners: Array, blocks: int) -> Array:
    """How many units of each block there are, 1 for none: a block's units lie in a weight equally often, or none."""
    first = np.unique(units, return_index=True)[1]
    return np.maximum(1, np.bincount(owners[first] + 1, minlength=blocks + 1)[1:])


def _matrix(rows: Sequence[tuple[int, ...]], blocks: int) -> Array:
    return np.array(rows, np.int64).reshape(-1, blocks + 1)
