"""`export.layout: "regular"`: the best structure that a plain config.json can say, so that it loads without code.

Whole layers stay or go. Those that stay have one FFN width, and all their heads: only where the config names the size
of a head can there be fewer, then as many in each layer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.domains.cost import Additive
from core.domains.fit import SLACK, Scores, fit, worth, worths
from core.domains.structure import Structure
from core.domains.transformer.families import Architecture
from core.spec.job import Layout

Rows = NDArray[np.float64]


def fit_regular(scores: Scores, cost: Additive, limit: int, architecture: Architecture) -> Structure:
    """The regular structure of the largest summed worth whose cost in the encoder layers is at most `limit`.

    Every number of layers (and of heads, where that is free) is tried with the widest FFN that fits; what comes within
    1 % of the limit goes first. One step of the width costs a neuron in every layer.
    """
    a = architecture
    heads, neurons = np.split(worths(scores, cost), [a.layers * a.heads])
    heads, neurons = heads.reshape(a.layers, a.heads), neurons.reshape(a.layers, a.neurons)
    found = []
    for layers, count in product(range(1, a.layers + 1), a.head_counts):
        price = partial(_price, cost, a.layers, layers, count)
        width = bisect_right(range(1, a.neurons + 1), limit, key=price)
        if width:
            value = _best(heads, count).sum(1) + _best(neurons, width).sum(1)  # of each layer
            if a.family.first_layer_stays:
                value[0] = np.inf
            kept = np.argsort(-value, kind="stable")[:layers]
            structure = Structure.of(
                _places(heads, count), _places(neurons, width), set(range(a.layers)) - set(kept.tolist())
            )
            met = cost.of(structure)
            found.append((met >= (1 - SLACK) * limit, met, worth(scores, cost, structure), structure))
    near = [one for one in found if one[0]] or [max(found, key=lambda one: one[1])]
    return max(near, key=lambda one: one[2])[3]


def fit_of(layout: Layout, architecture: Architecture) -> Callable[[Scores, Additive, int], Structure]:
    """`fit` under a layout."""
    return partial(fit_regular, architecture=architecture) if layout == "regular" else fit


def compare(scores: Scores, every: Scores, cost: Additive, limit: int, architecture: Architecture) -> dict[str, Any]:
    """What regularity costs: the summed worth that either layout keeps under the same limit.

    `every`: the scores of all units, where the free layout has fewer to choose from.
    """
    both = {"regular": fit_regular(every, cost, limit, architecture), "free": fit(scores, cost, limit)}
    return {
        name: {"worth": round(worth(every, cost, one), 4), "cost": cost.of(one), **one.sizes()}
        for name, one in both.items()
    }


def _price(cost: Additive, every: int, layers: int, heads: int, width: int) -> int:
    """Of any regular structure of that size: which units it keeps does not matter."""
    gone = ((),) * (every - layers)
    kept = (tuple(range(heads)),) * layers + gone + (tuple(range(width)),) * layers + gone
    return cost.of(Structure(kept, tuple(range(layers, every))))


def _places(values: Rows, count: int) -> list[list[int]]:
    """Where the `count` largest of each row are; ties go to the lower index."""
    places: list[list[int]] = np.argsort(-values, axis=1, kind="stable")[:, :count].tolist()
    return places


def _best(values: Rows, count: int) -> Rows:
    return -np.sort(-values, axis=1)[:, :count]
