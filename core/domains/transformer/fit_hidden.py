"""`hidden_size: trim`: scores -> the structure that meets the budget with some of the hidden dimensions.

At any one hidden size all costs are additive again, so `fit` serves each: a ladder of sizes is tried, the best-scored
dimensions of each, and the structure that keeps the most is taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.domains.cost import Additive
from core.domains.fit import SLACK, Scores, each_unit, fit, worth
from core.domains.structure import Structure
from core.domains.transformer.costs import Costs, hidden_sizes


def fit_narrow(scores: Scores, costs: Costs, kind: str, whole: bool, limit: int) -> Structure:
    """The structure of the largest kept worth within `limit`, which is of the encoder at its full hidden size.

    `whole`: what lies outside the encoder counts, too, so that fewer dimensions leave more for it.
    """
    return max(narrowed(scores, costs, kind, whole, limit), key=lambda one: one[0])[1]


def narrowed(scores: Scores, costs: Costs, kind: str, whole: bool, limit: int) -> list[tuple[float, Structure]]:
    """Kept worth and structure at each hidden size that uses up the limit, to 1 %."""
    assert scores.hidden is not None
    order = np.argsort(-scores.hidden, kind="stable")
    ladder = hidden_sizes(len(order))
    found = _tried(scores, order, ladder, costs, kind, whole, limit)
    if not any(one[0] <= SLACK for one in found) and len(found) < len(ladder):
        # A large vocabulary: one step leaves units over that the next has no room for.
        found += _tried(scores, order, range(ladder[len(found) - 1], ladder[len(found)]), costs, kind, whole, limit)
    full = [one for one in found if one[0] <= SLACK] or [min(found, key=lambda one: one[0])]
    return [(value, structure) for _, value, structure in full]


def _tried(
    scores: Scores, order: NDArray[np.int64], sizes: Iterable[int], costs: Costs, kind: str, whole: bool, limit: int
) -> list[tuple[float, float, Structure]]:
    """Part of the limit that is left, kept worth and structure, from the least of `sizes` to the last with room."""
    assert scores.hidden is not None
    dense: Additive = getattr(costs, kind)
    found = []
    for hidden in sizes:
        cost: Additive = getattr(costs.at(hidden), kind)
        room = limit + (dense.outside - cost.outside) * whole
        if room < cost.smallest:
            break
        structure, kept = fit(priced(scores, dense, cost), cost, room), order[:hidden]
        if hidden < len(order):
            structure = replace(structure, hidden=tuple(sorted(kept.tolist())))
        left = 1 - (cost.of(structure) + cost.outside * whole) / (limit + dense.outside * whole)
        value = worth(scores, dense, structure) * scores.hidden[kept].sum() / scores.hidden.sum()
        found.append((left, float(value), structure))
    return found


def priced(scores: Scores, before: Additive, after: Additive) -> Scores:
    """Worth per cost at other prices."""
    ratios = [old / new for old, new in zip(before.shared, after.shared, strict=True)]
    return replace(scores, units=scores.units * each_unit(before.anatomy, ratios))
