"""`fit_channels`: from scores to the `Structure` that meets the budget, exactly and deterministically."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.domains.channels.cost import Bilinear
from core.domains.fit import Scores
from core.domains.structure import ChannelStructure, Structure

Array = NDArray[np.int64]


def fit_channels(scores: Scores, cost: Bilinear, limit: int, multiple: int = 1) -> Structure:
    """Keep the best-scored units whose cost, but for `outside`, is at most `limit`, and as near as they come.

    Widths are multiples of `multiple` channels, or all that a block has; each block keeps one such step at least. The
    best units of a block go first, a step at a time, by the mean of their scores. First the longest run of steps in
    this order that fits, by bisection (a cost only grows with what is kept), then whatever else still fits. Ties go to
    the lower block and unit. A unit that scores minus infinity is never kept.

    Where `limit` is less than `cost.least(multiple)`, this least is given: the caller has to refuse it.
    """
    ranked = [_ranked(scores.units[span]) for span in cost.anatomy.spans]
    steps = cost.steps(multiple)
    bounds = [
        np.append(np.arange(step, len(units), step), len(units)) for units, step in zip(ranked, steps, strict=True)
    ]
    least = np.array([bound[0] for bound in bounds], np.int64)
    owner, value, size = _steps(scores, cost, ranked, bounds)
    order = np.lexsort((np.arange(len(value)), owner, -value))
    counts, taken = _longest(cost, limit, least, owner[order], size[order])
    _fill(cost, limit, counts, bounds, owner[order[taken:]])
    return ChannelStructure(
        tuple(tuple(sorted(units[:count].tolist())) for units, count in zip(ranked, counts, strict=True))
    )


def _ranked(scores: NDArray[np.float64]) -> Array:
    """The units of a block that can be kept, the best first."""
    order = np.argsort(-scores, kind="stable")
    return np.asarray(order[scores[order] > -np.inf])


def _steps(
    scores: Scores, cost: Bilinear, ranked: list[Array], bounds: list[Array]
) -> tuple[Array, NDArray[np.float64], Array]:
    """Of each step after the first of its block: the block, the mean score, and how many units it adds."""
    owner, value, size = [], [], []
    for block, (span, units, bound) in enumerate(zip(cost.anatomy.spans, ranked, bounds, strict=True)):
        if len(bound) > 1:
            sums = np.add.reduceat(scores.units[span][units], bound[:-1])
            size.append(np.diff(bound))
            value.append(np.minimum.accumulate(sums / size[-1]))  # rounding must not change their order
            owner.append(np.full(len(sums), block))
    if not owner:
        return np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64)
    return np.concatenate(owner), np.concatenate(value), np.concatenate(size)


def _longest(cost: Bilinear, limit: int, least: Array, owner: Array, size: Array) -> tuple[Array, int]:
    """Units of each block with as many of the first steps as fit, and how many these are."""

    def kept(count: int) -> Array:
        added = np.bincount(owner[:count], weights=size[:count], minlength=len(least))
        return least + added.astype(np.int64)

    low, high = 0, len(owner)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost.at(kept(middle)) <= limit else (low, middle - 1)
    return kept(low), low


def _fill(cost: Bilinear, limit: int, counts: Array, bounds: list[Array], owners: Array) -> None:
    """Add steps that still fit, in their order, in place; one that does not never will, nor the next of its block."""
    closed = np.zeros(len(counts), np.bool_)
    for block in owners.tolist():
        following = bounds[block][bounds[block] > counts[block]]
        if closed[block] or not len(following):
            continue
        more = counts.copy()
        more[block] = following[0]
        if cost.at(more) <= limit:
            counts[block] = following[0]
        else:
            closed[block] = True
