"""`Structure`: which units are kept. The one thing that pruning decides; plain, JSON-serialisable, no tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.spec.families import Architecture


@dataclass(frozen=True)
class Structure:
    """Kept heads and FFN neurons of each layer, by their index in the dense model, ascending.

    Canonical form: a block without units is no block. An attention (or FFN) block whose heads (neurons) are all
    dropped loses its projections and their biases; only the residual connection and its LayerNorm remain. So
    one structure has one form, and the masked network equals the cut one.
    """

    heads: tuple[tuple[int, ...], ...]
    neurons: tuple[tuple[int, ...], ...]

    @classmethod
    def dense(cls, architecture: Architecture) -> Structure:
        """Everything kept."""
        return cls(
            (tuple(range(architecture.heads)),) * architecture.layers,
            (tuple(range(architecture.neurons)),) * architecture.layers,
        )

    @classmethod
    def of(cls, heads: Iterable[Iterable[int]], neurons: Iterable[Iterable[int]]) -> Structure:
        """From any iterables of kept indices."""
        return cls(tuple(tuple(sorted(set(row))) for row in heads), tuple(tuple(sorted(set(row))) for row in neurons))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Structure:
        """Inverse of `to_json`."""
        return cls.of(value["heads"], value["neurons"])

    def to_json(self) -> dict[str, list[list[int]]]:
        """`{"heads": [[kept of layer 0], ...], "neurons": [[...], ...]}`."""
        return {"heads": [list(row) for row in self.heads], "neurons": [list(row) for row in self.neurons]}

    def within(self, outer: Structure) -> Structure:
        """This structure in the numbering of a model that was already cut to `outer` (a superset)."""

        def renumber(kept: Sequence[Sequence[int]], present: Sequence[Sequence[int]]) -> list[list[int]]:
            return [[row.index(unit) for unit in units] for units, row in zip(kept, present, strict=True)]

        return Structure.of(renumber(self.heads, outer.heads), renumber(self.neurons, outer.neurons))

    def shape(self) -> dict[str, Any]:
        """All that is needed to build the empty network: the heads that are kept, and how many neurons."""
        return {"heads": [list(row) for row in self.heads], "neurons": [len(row) for row in self.neurons]}

    def sizes(self) -> dict[str, list[int]]:
        """How many units are kept in each layer."""
        return {"heads": [len(row) for row in self.heads], "neurons": [len(row) for row in self.neurons]}
