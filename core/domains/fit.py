"""`fit`: from scores to the `Structure` that meets the budget, exactly and deterministically."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.domains.anatomy import Anatomy
from core.domains.cost import Additive, Cost
from core.domains.structure import Structure

SLACK = 0.01  # how far under the limit the result may be


@dataclass(frozen=True)
class Scores:
    """How much each unit is worth keeping, in the order of the anatomy.

    One scale for all: the method that scores has already weighed worth against cost. A unit that scores minus
    infinity is never kept. `hidden`: of each hidden dimension, where they may go, in a scale of their own. `columns`:
    where readers read their own channels, in which parts the worth of a unit is that of what each reads of it.
    """

    units: NDArray[np.float64]
    hidden: NDArray[np.float64] | None = None
    columns: NDArray[np.float64] | None = None


def within(scores: Scores, cost: Cost, present: Structure) -> Scores:
    """The same, with no other units than those that are `present`."""
    units = np.full(len(scores.units), -np.inf)
    for span, kept in zip(cost.anatomy.spans, present.kept, strict=True):
        rows = span.start + np.array(kept, int)
        units[rows] = scores.units[rows]
    return Scores(units)


def fit(scores: Scores, cost: Additive, limit: int) -> Structure:
    """The best-scored units whose cost in the encoder layers is at most `limit`, and within 1 % of it.

    Greedy by score: a unit is kept if it, and its block's own cost where it is the block's first, still fits. Where
    one is too large to fill what is left, units of the kind that is cheapest, those of the lowest score, make room for
    it. Ties go to the lower block and unit, so the same scores give the same structure. Of a kind that has to stay, the
    best-scored unit that the limit has room for comes first.
    """
    spans = cost.anatomy.spans
    kept: list[list[int]] = [[] for _ in spans]
    order = np.argsort(-scores.units, kind="stable")
    owner = each_unit(cost.anatomy, range(len(spans)))
    left, too_large, fills = limit - sum(cost.fixed), [], finest(cost)
    if cost.anatomy.stays:
        roomy = [i for i in cost.anatomy.last if cost.marginal(i, 0) <= left]
        first = (np.isin(owner[order], roomy) & np.isfinite(scores.units[order])).argmax()
        order = np.concatenate([order[[first]], np.delete(order, first)])
    for unit, block in zip(order.tolist(), owner[order].tolist(), strict=True):
        if scores.units[unit] == -np.inf:
            break
        price = cost.marginal(block, len(kept[block]))
        if price <= left:
            kept[block].append(unit)
            left -= price
        elif block not in fills:
            too_large.append((block, unit))
    _fill(kept, scores, too_large, fills, cost, left, limit)
    return Structure(
        tuple(tuple(sorted(unit - span.start for unit in row)) for row, span in zip(kept, spans, strict=True))
    )


def each_unit(anatomy: Anatomy, values: Sequence[float]) -> NDArray[np.float64]:
    """What is of a block, for each of its units."""
    return np.repeat(values, [block.size for block in anatomy.blocks])


def worths(scores: Scores, cost: Additive) -> NDArray[np.float64]:
    """Of each unit: score times cost."""
    return np.where(np.isfinite(scores.units), scores.units, 0.0) * each_unit(cost.anatomy, cost.shared)


def worth(scores: Scores, cost: Additive, structure: Structure) -> float:
    """Part of the summed worth of all units that `structure` keeps."""
    every = worths(scores, cost)
    rows = zip(cost.anatomy.spans, structure.kept, strict=True)
    return float(sum(every[span][list(row)].sum() for span, row in rows) / every.sum())


def finest(cost: Additive) -> list[int]:
    """The blocks of the kind whose units cost the least, with their part of the block's own: they fill what is left."""
    there = [i for i, block in enumerate(cost.anatomy.blocks) if block.size]
    kinds = {kind: [i for i in there if cost.anatomy.blocks[i].kind == kind] for kind in cost.anatomy.kinds}

    def mean(blocks: list[int]) -> float:
        sizes = [cost.anatomy.blocks[i].size for i in blocks]
        return sum(cost.unit[i] * size + cost.block[i] for i, size in zip(blocks, sizes, strict=True)) / sum(sizes)

    return min(filter(None, kinds.values()), key=mean)


def stays_exact(structure: Structure, cost: Additive) -> bool:
    """Whether a network with these units, yet to be cut again, has fine ones enough for the last fit to be exact."""
    fills, shared = finest(cost), cost.shared
    dearest = max((price for i, price in enumerate(shared) if i not in fills), default=0)
    return sum(len(structure.kept[i]) for i in fills) >= int(2 * dearest // min(shared[i] for i in fills)) + len(fills)


def _fill(
    kept: list[list[int]],
    scores: Scores,
    too_large: list[tuple[int, int]],
    fills: list[int],
    cost: Additive,
    left: int,
    limit: int,
) -> None:
    """While more than the slack is left, swap the lowest units of `fills` for the best one that did not fit."""
    for block, unit in too_large:
        if left <= SLACK * limit:
            return
        price = cost.marginal(block, len(kept[block]))
        if price > left + sum(cost.unit[i] * max(0, len(kept[i]) - 1) for i in fills):  # their blocks have to stay
            continue
        kept[block].append(unit)
        left -= price
        while left < 0:  # each row was appended best first
            lowest = min((i for i in fills if len(kept[i]) > 1), key=lambda i: scores.units[kept[i][-1]])
            kept[lowest].pop()
            left += cost.unit[lowest]
