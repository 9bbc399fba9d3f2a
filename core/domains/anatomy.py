"""What can be cut of a model, whatever it is: blocks of units, which are numbered through."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate


@dataclass(frozen=True)
class Block:
    """Units that are cut alike: each may go, and the block with its last one."""

    name: str
    kind: str
    size: int  # units


@dataclass(frozen=True)
class Anatomy:
    """The blocks of a model, those of one kind side by side: unit `u` is that block's which begins nearest below.

    `stays`: a kind of which a unit has to stay, where there is one.
    """

    blocks: tuple[Block, ...]
    stays: str | None = None

    @cached_property
    def size(self) -> int:
        """How many units there are."""
        return sum(block.size for block in self.blocks)

    @cached_property
    def spans(self) -> tuple[slice, ...]:
        """Where the units of each block lie among all."""
        ends = accumulate(block.size for block in self.blocks)
        return tuple(slice(end - block.size, end) for end, block in zip(ends, self.blocks, strict=True))

    @cached_property
    def last(self) -> list[int]:
        """The blocks that there are, of which one keeps a unit when all others are gone."""
        there = [i for i, block in enumerate(self.blocks) if block.size]
        return [i for i in there if self.blocks[i].kind == self.stays] or there

    @cached_property
    def kinds(self) -> dict[str, tuple[slice, slice]]:
        """Of each kind of block: where its blocks lie, and where their units do."""
        found: dict[str, tuple[slice, slice]] = {}
        for i, (block, span) in enumerate(zip(self.blocks, self.spans, strict=True)):
            first, units = found.get(block.kind, (slice(i, i), span))
            found[block.kind] = slice(first.start, i + 1), slice(units.start, span.stop)
        return found
