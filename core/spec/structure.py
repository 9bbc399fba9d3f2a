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

    A layer in `dropped` is gone as a whole, LayerNorms included: what enters it leaves it. It has no units.
    """

    heads: tuple[tuple[int, ...], ...]
    neurons: tuple[tuple[int, ...], ...]
    dropped: tuple[int, ...] = ()

    @classmethod
    def dense(cls, architecture: Architecture) -> Structure:
        """Everything kept."""
        return cls(
            (tuple(range(architecture.heads)),) * architecture.layers,
            (tuple(range(architecture.neurons)),) * architecture.layers,
        )

    @classmethod
    def of(
        cls, heads: Iterable[Iterable[int]], neurons: Iterable[Iterable[int]], dropped: Iterable[int] = ()
    ) -> Structure:
        """From any iterables of kept indices; units of a dropped layer go with it."""
        gone = set(dropped)

        def rows(units: Iterable[Iterable[int]]) -> tuple[tuple[int, ...], ...]:
            return tuple(() if i in gone else tuple(sorted(set(row))) for i, row in enumerate(units))

        return cls(rows(heads), rows(neurons), tuple(sorted(gone)))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Structure:
        """Inverse of `to_json`."""
        return cls.of(value["heads"], value["neurons"], value.get("dropped", ()))

    def to_json(self) -> dict[str, Any]:
        """`{"heads": [[kept of layer 0], ...], "neurons": [[...], ...]}`, and `"dropped"` where whole layers are."""
        units = {"heads": [list(row) for row in self.heads], "neurons": [list(row) for row in self.neurons]}
        return units | ({"dropped": list(self.dropped)} if self.dropped else {})

    def within(self, outer: Structure) -> Structure:
        """This structure in the numbering of a model that was already cut to `outer` (a superset)."""

        def renumber(kept: Sequence[Sequence[int]], present: Sequence[Sequence[int]]) -> list[list[int]]:
            return [[row.index(unit) for unit in units] for units, row in zip(kept, present, strict=True)]

        heads, neurons = renumber(self.heads, outer.heads), renumber(self.neurons, outer.neurons)
        left = [i for i in range(len(heads)) if i not in outer.dropped]
        dropped = [left.index(i) for i in self.dropped if i in left]
        return Structure.of([heads[i] for i in left], [neurons[i] for i in left], dropped)

    def remaining(self) -> Structure:
        """The layers that stay alone, counted anew."""
        left = [i for i in range(len(self.heads)) if i not in self.dropped]
        return Structure.of([self.heads[i] for i in left], [self.neurons[i] for i in left])

    def shape(self) -> dict[str, Any]:
        """All that is needed to build the empty network: the heads that are kept, and how many neurons."""
        return {"heads": [list(row) for row in self.heads], "neurons": [len(row) for row in self.neurons]}

    def sizes(self) -> dict[str, list[int]]:
        """How many units are kept in each layer, and which layers are dropped."""
        units = {"heads": [len(row) for row in self.heads], "neurons": [len(row) for row in self.neurons]}
        return units | ({"dropped": list(self.dropped)} if self.dropped else {})
