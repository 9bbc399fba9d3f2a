"""`Keeping`: which indices of each weight stay under a structure, in which order, and what layers read of tensors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.domains.anatomy import Anatomy
from core.domains.channels.weight import Weight
from core.domains.structure import ChannelStructure, Structure

Array = NDArray[np.int64]
Runs = list[list[int]]  # [first, how many], ascending


class Keeping:
    """A place is an index of a dimension, and the unit that has lain there names it.

    Where the kept units of a block do not ascend, the places that stay, which do, are given to these units in turn: a
    place gets what lay in the same occurrence of its new unit.

    `has`: of each unit, and of PINNED last, whether it stays.
    """

    def __init__(self, anatomy: Anatomy, has: NDArray[np.bool_], structure: Structure) -> None:
        self.has = has
        self.now = np.arange(anatomy.size + 1)  # the unit that a place gets, PINNED's last
        for span, kept in zip(anatomy.spans, structure.kept, strict=True):
            units = span.start + np.array(kept, np.int64)
            self.now[np.sort(units)] = units
        self.moved = bool((self.now[1:] < self.now[:-1]).any())
        self.out: dict[str, NDArray[np.bool_]] = {}
        if isinstance(structure, ChannelStructure):
            for path, left in structure.left_out:
                self.out[path] = np.zeros(anatomy.size + 1, np.bool_)
                self.out[path][list(left)] = True

    def places(self, weight: Weight, side: int) -> Array:
        """The places that stay in a dimension, ascending."""
        units = np.array(weight.sides[side], np.int64)
        stays = self.has[units]
        if side == 1 and weight.reader in self.out:
            stays = stays & ~self.out[weight.reader][self.now[units]]
        return np.flatnonzero(stays)

    def index(self, weight: Weight, side: int) -> Array:
        """Where in the dense weight that lies which gets each of these places."""
        places = self.places(weight, side)
        if not self.moved:
            return places
        units = np.array(weight.sides[side], np.int64) % len(self.has)  # PINNED counts as the last
        order = np.argsort(units, kind="stable")
        first = np.searchsorted(units[order], np.arange(len(self.has)))
        occurrence = np.empty(len(units), np.int64)
        occurrence[order] = np.arange(len(units)) - first[units[order]]
        return np.asarray(order[first[self.now[units[places]]] + occurrence[places]])

    def reads(self, weight: Weight) -> Runs:
        """Which of the channels that are left a reader with its own reads; [] where it reads all."""
        if weight.reader not in self.out:
            return []
        left = np.flatnonzero(self.has[np.array(weight.sides[1], np.int64)])
        return runs(np.searchsorted(left, self.places(weight, 1)))


def runs(index: Array) -> Runs:
    """[2, 3, 4, 7] -> [[2, 3], [7, 1]]: ascending indices as slices."""
    breaks = np.flatnonzero(np.diff(index) != 1) + 1
    return [[int(part[0]), len(part)] for part in np.split(index, breaks) if len(part)]
