"""What units cost, by block; and every cost of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

from core.domains.anatomy import Anatomy
from core.domains.structure import Structure
from core.spec.budget import Budget
from core.spec.job import HiddenSize, Layout

FLOAT32 = 4  # bytes: what checkpoints are written in


class Cost(Protocol):
    """One kind of cost of a model."""

    @property
    def anatomy(self) -> Anatomy:
        """What it is counted by."""

    @property
    def outside(self) -> int:
        """Of what pruning cannot touch."""

    @property
    def spared(self) -> int:
        """What is gone of the dense model already."""

    @property
    def dense(self) -> int:
        """Of all that units lie in."""

    @property
    def before(self) -> int:
        """Of the whole dense model as it was given."""

    @property
    def smallest(self) -> int:
        """The least that any structure leaves of `dense`."""

    @property
    def shared(self) -> list[float]:
        """Of a unit of each block, to weigh against its worth."""

    def of(self, structure: Structure) -> int:
        """Of what is left of `dense`."""

    def model(self, structure: Structure) -> int:
        """Of the whole model."""


@dataclass(frozen=True)
class Additive:
    """One kind of cost: of each block, of each of its units, and of what pruning cannot touch."""

    anatomy: Anatomy
    unit: tuple[int, ...]  # of each block: one of its units; of a head q, k, v rows and columns of the projection back
    block: tuple[int, ...]  # of each, apart from its units: bias of the projection back, norms that the heads share
    fixed: tuple[int, ...]  # of each layer that is there: LayerNorms
    outside: int  # embeddings, pooler, classifier
    spared: int = 0  # what a smaller vocabulary has taken from the dense model already
    measured: bool = False  # prices fitted to a clock: most of a block's may be its own, next to none its units'

    @classmethod
    def alike(
        cls,
        anatomy: Anatomy,
        prices: Mapping[str, tuple[int, int]],
        *,
        fixed: Sequence[int] = (),
        outside: int = 0,
        measured: bool = False,
    ) -> Self:
        """Where all blocks of a kind cost the same: kind -> of a unit, of the block apart from its units."""
        unit, block = zip(*(prices[block.kind] for block in anatomy.blocks), strict=True)
        return cls(anatomy, unit, block, tuple(fixed), outside, measured=measured)

    def of(self, structure: Structure) -> int:
        """Cost of what units are cut from: the encoder layers."""
        prices = zip(self.unit, self.block, structure.kept, strict=True)
        fixed = sum(price for i, price in enumerate(self.fixed) if i not in structure.dropped)
        return fixed + sum(unit * len(row) + block * bool(row) for unit, block, row in prices)

    def model(self, structure: Structure) -> int:
        """Cost of the whole model, embeddings and head counted."""
        return self.of(structure) + self.outside

    def marginal(self, block: int, kept: int) -> int:
        """What one unit more costs in a block that has so many."""
        return self.unit[block] + (0 if kept else self.block[block])

    @property
    def shared(self) -> list[float]:
        """Of a unit of each block, to weigh against its worth; where measured, with its part of the block's."""
        if not self.measured:
            return [*self.unit]
        sizes = [max(1, block.size) for block in self.anatomy.blocks]
        return [unit + block / size for unit, block, size in zip(self.unit, self.block, sizes, strict=True)]

    @cached_property
    def dense(self) -> int:
        """Cost of the dense encoder layers."""
        prices = zip(self.unit, self.block, self.anatomy.blocks, strict=True)
        return sum(self.fixed) + sum(unit * one.size + block * bool(one.size) for unit, block, one in prices)

    @property
    def before(self) -> int:
        """Cost of the whole dense model as it was given."""
        return self.dense + self.outside + self.spared

    @property
    def smallest(self) -> int:
        """Cost of the encoder layers with a single unit left."""
        return sum(self.fixed) + min(self.marginal(i, 0) for i in self.anatomy.last)


class Costs(Protocol):
    """Every cost of one model, for a row of one size."""

    @property
    def params(self) -> Cost:
        """Parameters."""

    @property
    def macs(self) -> Cost:
        """Multiply-accumulates of one row."""

    @property
    def bytes(self) -> Cost:
        """Of the weights' file."""

    @property
    def length(self) -> int:
        """How large the row is: tokens of a text, pixels of a picture's side."""

    @property
    def matrices(self) -> int:
        """Weights that 'sparsity' is of."""

    def of(self, structure: Structure) -> Self:
        """Count anew for what `structure` changes of every price."""

    def limit(self, budget: Budget, layout: Layout = "free", hidden_size: HiddenSize = "keep") -> tuple[Cost, int]:
        """Give the cost that `budget` limits, and the most that units may cost; SpecError if out of reach."""
