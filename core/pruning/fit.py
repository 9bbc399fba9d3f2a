"""`fit`: from scores to the `Structure` that meets the budget, exactly and deterministically."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.spec.cost import CostModel
from core.spec.structure import Structure

SLACK = 0.01  # how far under the limit the result may be


@dataclass(frozen=True)
class Scores:
    """How much each unit is worth keeping: heads (layers, heads) and neurons (layers, neurons).

    One scale for both: the method that scores has already weighed worth against cost. A unit that scores minus
    infinity is never kept. `hidden`: of each hidden dimension, where they may go, in a scale of their own.
    """

    heads: NDArray[np.float64]
    neurons: NDArray[np.float64]
    hidden: NDArray[np.float64] | None = None


def fit(scores: Scores, cost: CostModel, limit: int) -> Structure:
    """The best-scored units whose cost in the encoder layers is at most `limit`, and within 1 % of it.

    Greedy by score: a unit is kept if it, and its block's own cost where it is the block's first, still fits. Where
    a head is too large to fill what is left, neurons of the lowest score make room for it. Ties go to the lower
    layer and index, so the same scores give the same structure.
    """
    layers = len(scores.heads)
    heads: list[list[int]] = [[] for _ in range(layers)]
    neurons: list[list[int]] = [[] for _ in range(layers)]
    units = [(-s, 0, i, j) for (i, j), s in np.ndenumerate(scores.heads)]
    units += [(-s, 1, i, j) for (i, j), s in np.ndenumerate(scores.neurons)]
    left = limit - cost.encoder_fixed
    too_large = []
    for score, kind, layer, unit in sorted(units):
        if score == np.inf:
            break
        chosen, price, block = (
            (heads[layer], cost.head, cost.attention_block)
            if kind == 0
            else (neurons[layer], cost.neuron, cost.ffn_block)
        )
        price += 0 if chosen else block
        if price <= left:
            chosen.append(unit)
            left -= price
        elif kind == 0:
            too_large.append((layer, unit))
    _fill(heads, neurons, scores.neurons, too_large, cost, left, limit)
    return Structure.of(heads, neurons)


def reserve(cost: CostModel) -> int:
    """How many neurons a network needs that is still to be cut, so that the last fit can be exact."""
    head, neuron = cost.shared
    return int(2 * head // neuron) + cost.architecture.layers


def _fill(
    heads: list[list[int]],
    neurons: list[list[int]],
    worth: NDArray[np.float64],
    too_large: list[tuple[int, int]],
    cost: CostModel,
    left: int,
    limit: int,
) -> None:
    """While more than the slack is left, swap the lowest neurons for the best head that did not fit."""
    for layer, head in too_large:
        if left <= SLACK * limit:
            return
        price = cost.head + (0 if heads[layer] else cost.attention_block)
        away = -(-(price - left) // cost.neuron)
        if away > sum(max(0, len(row) - 1) for row in neurons):  # their blocks have to stay alive without them
            continue
        heads[layer].append(head)
        for _ in range(away):  # each row was appended best first
            alive = (i for i, row in enumerate(neurons) if len(row) > 1)
            neurons[min(alive, key=lambda i: worth[i, neurons[i][-1]])].pop()
        left += away * cost.neuron - price
