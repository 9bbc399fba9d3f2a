"""In which order a tensor's channels lie, so that as many readers as possible read one slice of it (UPSCALE's
reordering: Wan et al., ICML 2023, arXiv 2307.08771). It is the consecutive-ones problem, and where not all sets can
lie side by side, its largest part that can.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from core.domains.channels.graph import Graph
from core.domains.channels.own_readers.pq_tree import Tree, every_order, frontier, restrict
from core.domains.structure import ChannelStructure, Structure

TRIES = 3000  # sets that are tried against an order, before what was found is taken
STARTS = 16  # greedy ones, where that does not settle it


def ordered(graph: Graph, structure: Structure) -> Structure:
    """Give the same structure with the kept units of each block in such an order."""
    if not isinstance(structure, ChannelStructure) or not structure.left_out:
        return structure
    has, columns = graph.has(structure), graph.columns
    read = has[columns.unit] & ~columns.left_out(structure)
    rows = []
    for block, (span, kept) in enumerate(zip(graph.anatomy.spans, structure.kept, strict=True)):
        mine = read & (graph.owner[columns.unit] == block)
        readers = np.unique(columns.reader[mine])
        sets = [frozenset((columns.unit[mine & (columns.reader == one)] - span.start).tolist()) for one in readers]
        rows.append(tuple(order(sorted(kept), sets)))
    return replace(structure, kept=tuple(rows))


def order(things: Sequence[int], sets: Iterable[frozenset[int]]) -> list[int]:
    """Order things, so that as few as possible of `sets` do not lie side by side, and the rest in few runs.

    Never worse than the order they come in. Deterministic.
    """
    counted = Counter(one for one in sets if 1 < len(one) < len(things))
    if not counted:
        return [*things]
    atoms: dict[tuple[bool, ...], list[int]] = {}  # things that lie in the same sets
    for thing in things:
        atoms.setdefault(tuple(thing in one for one in counted), []).append(thing)
    members = [*atoms.values()]
    of_atoms = [
        (frozenset(i for i, signature in enumerate(atoms) if signature[k]), count)
        for k, count in enumerate(counted.values())
    ]
    tree = Search(of_atoms, len(members)).best()
    found = [thing for atom in frontier(tree) for thing in members[atom]]
    return min([found, [*things]], key=lambda one: slices(one, counted))


def slices(things: Sequence[int], sets: Counter[frozenset[int]]) -> tuple[int, int]:
    """How many sets are not one slice of things in this order, and how many slices all sets are."""
    place = {thing: i for i, thing in enumerate(things)}
    runs = {one: sum(place[thing] == 0 or things[place[thing] - 1] not in one for thing in one) for one in sets}
    return sum(n for one, n in sets.items() if runs[one] > 1), sum(n * runs[one] for one, n in sets.items())


class Search:
    """For the most sets that can lie side by side: branch and bound over them, then greedy starts in other orders."""

    def __init__(self, sets: Sequence[tuple[frozenset[int], int]], atoms: int) -> None:
        """`sets`: of atoms, and how many readers have each."""
        self.sets = sorted(sets, key=lambda one: (-one[1], -len(one[0]), sorted(one[0])))
        self.every, self.left = every_order(range(atoms)), TRIES
        self.found: Tree = self.every
        self.lost = sum(count for _, count in sets) + 1

    def best(self) -> Tree:
        """The orders of the best that was found."""
        self._branch(0, self.every, 0)
        if self.left <= 0:
            draw = random.Random(0)
            for start in range(STARTS):
                sets = sorted(self.sets, key=lambda one: len(one[0])) if not start else self.sets[:]
                if start:
                    draw.shuffle(sets)
                self._greedy(sets)
        return self.found

    def _branch(self, i: int, tree: Tree, lost: int) -> None:
        if lost >= self.lost:
            return
        if i == len(self.sets):
            self.found, self.lost = tree, lost
            return
        chosen, count = self.sets[i]
        self.left -= 1
        if (further := restrict(tree, chosen)) is not None:
            self._branch(i + 1, further, lost)
        if further is None or self.left > 0:
            self._branch(i + 1, tree, lost + count)

    def _greedy(self, sets: Sequence[tuple[frozenset[int], int]]) -> None:
        tree, lost = self.every, 0
        for chosen, count in sets:
            further = restrict(tree, chosen)
            tree, lost = (tree, lost + count) if further is None else (further, lost)
        if lost < self.lost:
            self.found, self.lost = tree, lost
