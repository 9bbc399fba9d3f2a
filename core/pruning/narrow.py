"""`hidden_size: trim`: scores -> the structure that meets the budget with some of the hidden dimensions.

At any one hidden size all costs are the six numbers of a `CostModel` again, so `fit` serves each: a ladder of sizes is
tried, the best-scored dimensions of each, and the structure that keeps the most is taken.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from core.pruning.fit import SLACK, Scores, fit
from core.pruning.regular import worth
from core.spec.cost import CostModel, Costs, hidden_sizes
from core.spec.structure import Structure

Kind = Literal["params", "macs", "bytes"]


def fit_narrow(scores: Scores, costs: Costs, kind: str, whole: bool, limit: int) -> Structure:
    """The structure of the largest kept worth within `limit`, which is of the encoder at its full hidden size.

    `whole`: what lies outside the encoder counts, too, so that fewer dimensions leave more for it.
    """
    return max(narrowed(scores, costs, kind, whole, limit), key=lambda one: one[0])[1]


def narrowed(scores: Scores, costs: Costs, kind: str, whole: bool, limit: int) -> list[tuple[float, Structure]]:
    """Kept worth and structure at each hidden size that the limit is used up by, to 1 %; else of the nearest."""
    assert scores.hidden is not None
    dense: CostModel = getattr(costs, kind)
    order = np.argsort(-scores.hidden, kind="stable")
    found = []
    for hidden in hidden_sizes(len(order)):
        cost: CostModel = getattr(costs.at(hidden), kind)
        room = limit + (dense.outside - cost.outside) * whole
        if room < cost.smallest:
            break
        structure = fit(priced(scores, dense, cost), cost, room)
        kept = order[:hidden]
        if hidden < len(order):
            structure = replace(structure, hidden=tuple(sorted(kept.tolist())))
        left = 1 - (cost.encoder(structure) + cost.outside * whole) / (limit + dense.outside * whole)
        value = worth(scores, dense, structure) * scores.hidden[kept].sum() / scores.hidden.sum()
        found.append((left, value, structure))
    full = [one for one in found if one[0] <= SLACK] or [min(found, key=lambda one: one[0])]
    return [(value, structure) for _, value, structure in full]


def priced(scores: Scores, before: CostModel, after: CostModel) -> Scores:
    """Worth per cost at other prices."""
    head, neuron = (old / new for old, new in zip(before.shared, after.shared, strict=True))
    return replace(scores, heads=scores.heads * head, neurons=scores.neurons * neuron)
