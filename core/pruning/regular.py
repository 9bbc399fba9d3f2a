"""`export.layout: "regular"`: the best structure that a plain config.json can say, so that it loads without code.

Whole layers stay or go. Those that stay have one FFN width, and all their heads: only where the config names the size
of a head can there be fewer, then as many in each layer.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.pruning.fit import SLACK, Scores, fit
from core.spec.cost import CostModel
from core.spec.job import Layout
from core.spec.structure import Structure

Rows = NDArray[np.float64]


def fit_regular(scores: Scores, cost: CostModel, limit: int) -> Structure:
    """The regular structure of the largest summed worth whose cost in the encoder layers is at most `limit`.

    Every number of layers (and of heads, where that is free) is tried with the widest FFN that fits; what comes within
    1 % of the limit goes first. One step of the width costs a neuron in every layer.
    """
    a = cost.architecture
    heads, neurons = (
        _worth(part, price) for part, price in zip((scores.heads, scores.neurons), cost.shared, strict=True)
    )
    found = []
    for layers, count in product(range(1, a.layers + 1), a.head_counts):
        price = partial(_price, cost, layers, count)
        width = bisect_right(range(1, a.neurons + 1), limit, key=price)
        if width:
            value = _best(heads, count).sum(1) + _best(neurons, width).sum(1)  # of each layer
            if a.family.first_layer_stays:
                value[0] = np.inf
            kept = np.argsort(-value, kind="stable")[:layers]
            structure = Structure.of(
                _places(heads, count), _places(neurons, width), set(range(a.layers)) - set(kept.tolist())
            )
            met = cost.encoder(structure)
            found.append((met >= (1 - SLACK) * limit, met, worth(scores, cost, structure), structure))
    near = [one for one in found if one[0]] or [max(found, key=lambda one: one[1])]
    return max(near, key=lambda one: one[2])[3]


def fit_to(layout: Layout, scores: Scores, cost: CostModel, limit: int) -> Structure:
    """`fit` under a layout."""
    return (fit_regular if layout == "regular" else fit)(scores, cost, limit)


def worth(scores: Scores, cost: CostModel, structure: Structure) -> float:
    """Part of the summed worth (score times cost) of all units that `structure` keeps."""
    prices = cost.shared
    heads, neurons = _worth(scores.heads, prices[0]), _worth(scores.neurons, prices[1])
    kept = sum(
        heads[i, list(structure.heads[i])].sum() + neurons[i, list(structure.neurons[i])].sum()
        for i in range(len(heads))
    )
    return float(kept / (heads.sum() + neurons.sum()))


def compare(scores: Scores, cost: CostModel, limit: int, structure: Structure) -> dict[str, Any]:
    """What regularity cost: the summed worth that `structure` keeps, beside the free structure of the same limit."""
    return {
        name: {"worth": round(worth(scores, cost, one), 4), "cost": cost.encoder(one), **one.sizes()}
        for name, one in (("regular", structure), ("free", fit(scores, cost, limit)))
    }


def _price(cost: CostModel, layers: int, heads: int, width: int) -> int:
    """Of any regular structure of that size: which units it keeps does not matter."""
    every = cost.architecture.layers
    return cost.encoder(Structure.of([range(heads)] * every, [range(width)] * every, range(layers, every)))


def _worth(scores: Rows, price: float) -> Rows:
    return np.where(np.isfinite(scores), scores, 0.0) * price


def _places(values: Rows, count: int) -> list[list[int]]:
    """Where the `count` largest of each row are; ties go to the lower index."""
    places: list[list[int]] = np.argsort(-values, axis=1, kind="stable")[:, :count].tolist()
    return places


def _best(values: Rows, count: int) -> Rows:
    return -np.sort(-values, axis=1)[:, :count]
