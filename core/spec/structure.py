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

    `hidden`: the kept dimensions of the residual stream, the same in every layer; None where all are. What reads the
    stream reads these alone, and norms take their statistics over them.
    """

    heads: tuple[tuple[int, ...], ...]
    neurons: tuple[tuple[int, ...], ...]
    dropped: tuple[int, ...] = ()
    hidden: tuple[int, ...] | None = None

    @classmethod
    def dense(cls, architecture: Architecture) -> Structure:
        """Everything kept."""
        return cls(
            (tuple(range(architecture.heads)),) * architecture.layers,
            (tuple(range(architecture.neurons)),) * architecture.layers,
        )

    @classmethod
    def of(
        cls,
        heads: Iterable[Iterable[int]],
        neurons: Iterable[Iterable[int]],
        dropped: Iterable[int] = (),
        hidden: Iterable[int] | None = None,
    ) -> Structure:
        """From any iterables of kept indices; units of a dropped layer go with it."""
        gone = set(dropped)

        def rows(units: Iterable[Iterable[int]]) -> tuple[tuple[int, ...], ...]:
            return tuple(() if i in gone else tuple(sorted(set(row))) for i, row in enumerate(units))

        dimensions = None if hidden is None else tuple(sorted(set(hidden)))
        return cls(rows(heads), rows(neurons), tuple(sorted(gone)), dimensions)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Structure:
        """Inverse of `to_json`."""
        return cls.of(value["heads"], value["neurons"], value.get("dropped", ()), value.get("hidden"))

    def to_json(self) -> dict[str, Any]:
        """`{"heads": [[kept of layer 0], ...], "neurons": [[...], ...]}`, and `"dropped"` where whole layers are.

        `"hidden"`, where not all hidden dimensions are kept.
        """
        units: dict[str, Any] = {"heads": [list(row) for row in self.heads]}
        units["neurons"] = [list(row) for row in self.neurons]
        units |= {"dropped": list(self.dropped)} if self.dropped else {}
        return units | ({"hidden": list(self.hidden)} if self.hidden is not None else {})

    def within(self, outer: Structure) -> Structure:
        """This structure in the numbering of a model that was already cut to `outer` (a superset)."""

        def renumber(kept: Sequence[Sequence[int]], present: Sequence[Sequence[int]]) -> list[list[int]]:
            return [[row.index(unit) for unit in units] for units, row in zip(kept, present, strict=True)]

        heads, neurons = renumber(self.heads, outer.heads), renumber(self.neurons, outer.neurons)
        left = [i for i in range(len(heads)) if i not in outer.dropped]
        dropped = [left.index(i) for i in self.dropped if i in left]
        hidden: Iterable[int] | None = self.hidden
        if self.hidden is not None and outer.hidden is not None:
            hidden = map(outer.hidden.index, self.hidden)
        return Structure.of([heads[i] for i in left], [neurons[i] for i in left], dropped, hidden)

    def remaining(self) -> Structure:
        """The layers that stay alone, counted anew."""
        left = [i for i in range(len(self.heads)) if i not in self.dropped]
        return Structure.of([self.heads[i] for i in left], [self.neurons[i] for i in left], hidden=self.hidden)

    def shape(self) -> dict[str, Any]:
        """All that is needed to build the empty network: the heads that are kept, how many neurons, hidden size."""
        shape = {"heads": [list(row) for row in self.heads], "neurons": [len(row) for row in self.neurons]}
        return shape | ({"hidden": len(self.hidden)} if self.hidden is not None else {})

    def sizes(self) -> dict[str, list[int]]:
        """How many units are kept in each layer, which layers are dropped, and the hidden size, where it shrinks."""
        units: dict[str, Any] = {"heads": [len(row) for row in self.heads]}
        units["neurons"] = [len(row) for row in self.neurons]
        units |= {"dropped": list(self.dropped)} if self.dropped else {}
        return units | ({"hidden": len(self.hidden)} if self.hidden is not None else {})
