"""The training loop's rates."""

from __future__ import annotations

import copy

import torch

from core.pruning.cut import cut
from core.pruning.network import Network, matrices
from core.pruning.train import recovery_rate
from core.spec.structure import Structure

LAYERS, HEADS, NEURONS = 3, 4, 128  # of the tiny model


def test_recovery_learns_faster_where_little_is_left(network: Network) -> None:
    def rate(heads: int, neurons: int) -> float:
        student = copy.deepcopy(network)
        cut(student, Structure.of([range(heads)] * LAYERS, [range(neurons)] * LAYERS))
        return recovery_rate(1.0, student, network)

    assert rate(HEADS, NEURONS) == rate(1, NEURONS // 4) == 1.0
    assert rate(0, NEURONS // 8) == rate(0, 0) == 3.0


def test_zeros_are_nothing_that_is_left(network: Network) -> None:
    student = copy.deepcopy(network)
    with torch.no_grad():
        for weight in matrices(student).values():
            weight.flatten()[: int(0.9 * weight.numel())] = 0
    assert recovery_rate(1.0, student, network) == 3.0
