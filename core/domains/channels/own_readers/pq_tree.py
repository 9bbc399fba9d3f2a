"""PQ-trees: every order of things in which given sets lie side by side (Booth, Lueker, JCSS 1976).

A tree is a thing, a P of parts that may be in any order, or a Q of parts in this order or the opposite one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal


@dataclass(frozen=True, eq=False)
class Node:
    """Parts, in any order (P), or in this one or the opposite one (Q)."""

    kind: Literal["P", "Q"]
    parts: tuple[Tree, ...]

    @cached_property
    def things(self) -> frozenset[int]:
        """All that is in it."""
        return frozenset(frontier(self))


Tree = int | Node


def every_order(things: Iterable[int]) -> Tree:
    """Give all orders of these."""
    return _any([*things])


def frontier(tree: Tree) -> list[int]:
    """Give one of the orders."""
    return [tree] if isinstance(tree, int) else [thing for part in tree.parts for thing in frontier(part)]


def restrict(tree: Tree, chosen: frozenset[int]) -> Tree | None:
    """Keep the orders in which the things of `chosen` lie side by side; None where there are none."""
    if not _partial(tree, chosen):
        return tree
    assert isinstance(tree, Node)
    touched = [i for i, part in enumerate(tree.parts) if _some(part, chosen)]
    if len(touched) == 1:
        [i] = touched
        inner = restrict(tree.parts[i], chosen)
        return None if inner is None else Node(tree.kind, (*tree.parts[:i], inner, *tree.parts[i + 1 :]))
    return _restrict_any(tree, chosen) if tree.kind == "P" else _restrict_row(tree, chosen)


def _restrict_any(tree: Node, chosen: frozenset[int]) -> Tree | None:
    """Full parts go together, up to two partial ones beside them, their full ends inwards."""
    empty, partial, full = _sorted(tree.parts, chosen)
    if len(partial) > 2:
        return None
    ends = [_row(part, chosen) for part in partial]
    if any(end is None for end in ends):
        return None
    left, right = ([*(end or ())] for end in [*ends, (), ()][:2])
    middle = [_any(full)] if full else []
    row = [*left, *middle, *reversed(right)]
    together = Node("Q", tuple(row)) if partial else middle[0]
    return _any([*empty, together])


def _restrict_row(tree: Node, chosen: frozenset[int]) -> Tree | None:
    """In a row, full parts lie side by side already, a partial one at most at each end of theirs."""
    touched = [i for i, part in enumerate(tree.parts) if _some(part, chosen)]
    first, last = touched[0], touched[-1]
    if any(not _all(part, chosen) for part in tree.parts[first + 1 : last]):
        return None
    left, right = _row(tree.parts[first], chosen), _row(tree.parts[last], chosen)
    if left is None or right is None:
        return None
    parts = tree.parts
    return Node("Q", (*parts[:first], *left, *parts[first + 1 : last], *reversed(right), *parts[last + 1 :]))


def _row(tree: Tree, chosen: frozenset[int]) -> list[Tree] | None:
    """The parts of a row that has all that is chosen at its right end; None where there is none."""
    if not _partial(tree, chosen):
        return [tree]
    assert isinstance(tree, Node)
    if tree.kind == "P":
        empty, partial, full = _sorted(tree.parts, chosen)
        inner = _row(partial[0], chosen) if partial else []
        if len(partial) > 1 or inner is None:
            return None
        return [*([_any(empty)] if empty else []), *inner, *([_any(full)] if full else [])]
    parts = [*tree.parts]
    if _all(parts[0], chosen) or not _some(parts[-1], chosen):
        parts.reverse()
    row: list[Tree] = []
    begun = False
    for part in parts:
        if begun and not _all(part, chosen):
            return None
        inner = _row(part, chosen)
        if inner is None:
            return None
        begun, row = begun or _some(part, chosen), [*row, *inner]
    return row


def _sorted(parts: Sequence[Tree], chosen: frozenset[int]) -> tuple[list[Tree], list[Tree], list[Tree]]:
    """Those of which nothing is chosen, something, and all."""
    empty = [part for part in parts if not _some(part, chosen)]
    partial = [part for part in parts if _partial(part, chosen)]
    return empty, partial, [part for part in parts if _all(part, chosen)]


def _any(parts: Sequence[Tree]) -> Tree:
    return parts[0] if len(parts) == 1 else Node("P", tuple(parts))


def _some(tree: Tree, chosen: frozenset[int]) -> bool:
    return tree in chosen if isinstance(tree, int) else not chosen.isdisjoint(tree.things)


def _all(tree: Tree, chosen: frozenset[int]) -> bool:
    return tree in chosen if isinstance(tree, int) else tree.things <= chosen


def _partial(tree: Tree, chosen: frozenset[int]) -> bool:
    return _some(tree, chosen) and not _all(tree, chosen)
