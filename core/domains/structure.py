"""`Structure`: which units are kept. The one thing that pruning decides; plain, JSON-serialisable, no tensors.

Also the words of a transformer: its blocks are the attention of each layer, whose units are heads, and then the FFN of
each layer, whose units are neurons.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.domains.anatomy import Anatomy, Block

ATTENTION, FFN = "attention", "ffn"
CHANNELS, GROUPS = "channels", "groups"  # of image models: single channels, groups of a grouped convolution
Rows = tuple[tuple[int, ...], ...]


def transformer(heads: Iterable[int], neurons: Iterable[int], stays: str | None = None) -> Anatomy:
    """The blocks of one that has so many heads and neurons in each layer, and of which kind a unit stays."""
    kinds = ((ATTENTION, heads), (FFN, neurons))
    blocks = (Block(f"{kind}.{i}", kind, size) for kind, sizes in kinds for i, size in enumerate(sizes))
    return Anatomy(tuple(blocks), stays)


@dataclass(frozen=True)
class Structure:
    """Kept units of each block, by their index in the block as it was given, ascending.

    Canonical form: a block without units is no block. An attention (or FFN) block whose heads (neurons) are all
    dropped loses its projections and their biases; only the residual connection and its LayerNorm remain. So
    one structure has one form, and the masked network equals the cut one.

    A layer in `dropped` is gone as a whole, LayerNorms included: what enters it leaves it. It has no units.

    `hidden`: the kept dimensions of the residual stream, the same in every layer; None where all are. What reads the
    stream reads these alone, and norms take their statistics over them.
    """

    kept: Rows
    dropped: tuple[int, ...] = ()
    hidden: tuple[int, ...] | None = None

    @classmethod
    def dense(cls, anatomy: Anatomy) -> Structure:
        """Everything kept."""
        rows = {size: tuple(range(size)) for size in {block.size for block in anatomy.blocks}}
        kind = ChannelStructure if any(block.kind in (CHANNELS, GROUPS) for block in anatomy.blocks) else cls
        return kind(tuple(rows[block.size] for block in anatomy.blocks))

    @classmethod
    def of(
        cls,
        heads: Iterable[Iterable[int]],
        neurons: Iterable[Iterable[int]],
        dropped: Iterable[int] = (),
        hidden: Iterable[int] | None = None,
    ) -> Structure:
        """From any iterables of kept indices of each layer; units of a dropped layer go with it."""
        gone = set(dropped)
        kept = tuple(
            () if i in gone else tuple(sorted(set(row))) for rows in (heads, neurons) for i, row in enumerate(rows)
        )
        return cls(kept, tuple(sorted(gone)), None if hidden is None else tuple(sorted(set(hidden))))

    @property
    def heads(self) -> Rows:
        """Kept heads of each layer."""
        return self.kept[: len(self.kept) // 2]

    @property
    def neurons(self) -> Rows:
        """Kept neurons of each layer."""
        return self.kept[len(self.kept) // 2 :]

    @property
    def anatomy(self) -> Anatomy:
        """Of a model that was cut to this, and still has every layer."""
        return transformer(map(len, self.heads), map(len, self.neurons))

    @property
    def left(self) -> list[int]:
        """The layers that are not dropped."""
        return [i for i in range(len(self.heads)) if i not in self.dropped]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Structure:
        """Inverse of `to_json`."""
        if "channels" in value:
            left_out = tuple((path, tuple(units)) for path, units in value.get("left_out", {}).items())
            return ChannelStructure(tuple(map(tuple, value["channels"])), left_out=left_out)
        return cls.of(value["heads"], value["neurons"], value.get("dropped", ()), value.get("hidden"))

    def to_json(self) -> dict[str, Any]:
        """`{"heads": [[kept of layer 0], ...], "neurons": [[...], ...]}`, and `"dropped"` where whole layers are.

        `"hidden"`, where not all hidden dimensions are kept.
        """
        return self._said(list)

    def sizes(self) -> dict[str, Any]:
        """How many units are kept in each layer, which layers are dropped, and the hidden size, where it shrinks."""
        return self._said(len)

    def _said(self, say: Any) -> dict[str, Any]:
        units: dict[str, Any] = {"heads": [*map(say, self.heads)], "neurons": [*map(say, self.neurons)]}
        units |= {"dropped": list(self.dropped)} if self.dropped else {}
        return units | ({"hidden": say(self.hidden)} if self.hidden is not None else {})

    def shape(self) -> dict[str, Any]:
        """All that is needed to build the empty network: the heads that are kept, how many neurons, hidden size."""
        shape = {"heads": [list(row) for row in self.heads], "neurons": [len(row) for row in self.neurons]}
        return shape | ({"hidden": len(self.hidden)} if self.hidden is not None else {})

    def within(self, outer: Structure) -> Structure:
        """This structure in the numbering of a model that was already cut to `outer` (a superset)."""

        def renumber(kept: Sequence[int], present: Sequence[int]) -> tuple[int, ...]:
            return tuple(map(present.index, kept))

        kept = tuple(map(renumber, self.kept, outer.kept))
        hidden = self.hidden
        if hidden is not None and outer.hidden is not None:
            hidden = renumber(hidden, outer.hidden)
        dropped = tuple(outer.left.index(i) for i in self.dropped if i in outer.left)
        return Structure(_rows(kept, outer.left), dropped, hidden)

    def through(self, outer: Structure) -> Structure:
        """Inverse of `within`, with every layer there: in the numbering of the model that was cut to `outer` before."""
        kept = tuple(
            tuple(present[unit] for unit in units) for units, present in zip(self.kept, outer.kept, strict=True)
        )
        hidden = self.hidden
        if outer.hidden is not None:
            hidden = outer.hidden if hidden is None else tuple(outer.hidden[i] for i in hidden)
        return Structure(kept, self.dropped, hidden)

    def remaining(self) -> Structure:
        """The layers that stay alone, counted anew."""
        return Structure(_rows(self.kept, self.left), hidden=self.hidden)


@dataclass(frozen=True)
class ChannelStructure(Structure):
    """Kept channels of an image model: blocks have no layers, and none is without a unit.

    Where readers read their own channels, units need not ascend: the first place that stays in a tensor is the first
    unit's, and so on, so that what a layer reads may lie side by side.
    """

    left_out: tuple[tuple[str, tuple[int, ...]], ...] = ()  # path of a reader -> units, of all, that it does not read

    def _said(self, say: Any) -> dict[str, Any]:
        own = {"left_out": {path: say(units) for path, units in self.left_out}} if self.left_out else {}
        return {"channels": [*map(say, self.kept)], **own}

    def within(self, outer: Structure) -> Structure:
        if self.left_out or (isinstance(outer, ChannelStructure) and outer.left_out):
            raise ValueError("where readers read their own channels, a network is cut once")
        return ChannelStructure(
            tuple(tuple(map(present.index, kept)) for kept, present in zip(self.kept, outer.kept, strict=True))
        )


def _rows(kept: Rows, layers: Sequence[int]) -> Rows:
    """Of these layers alone."""
    return tuple(kept[i + first] for first in (0, len(kept) // 2) for i in layers)
