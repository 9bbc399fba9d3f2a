"""Hard-concrete masks: formulas, and the faults of reference codes that ours must not have (docs/methods/l0.md)."""

from __future__ import annotations

import math

import numpy as np
import torch

from core.domains.cost import Additive, Cost
from core.domains.gates import CLAMP, SHIFT, START, Masks, alive, sample
from core.domains.structure import ATTENTION, Structure, transformer


def test_survival_probability_is_that_of_the_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    for a in (-3.0, -1.5986, 0.0, 2.0):
        drawn = sample(torch.full((200_000,), a), generator)
        assert abs((drawn > 0).float().mean() - alive(torch.tensor(a))) < 5e-3
    assert abs(SHIFT - 1.5986) < 1e-4


def test_pruning_starts_at_the_dense_model(cost: Cost) -> None:
    """Reference codes start intermediate masks near 0.5, a shock at step 1."""
    masks = Masks(cost)
    gates = masks.median()
    assert (gates.units == 1).all() and (gates.blocks == 1).all()
    drawn = sample(torch.full((100_000,), START), torch.Generator().manual_seed(0))
    assert drawn.mean() > 0.9


def test_expected_cost_is_exact_at_the_ends(cost: Cost) -> None:
    masks = Masks(cost)
    with torch.no_grad():
        for parameter in masks.parameters():
            parameter.fill_(100.0)
    assert round(float(masks.expected().detach())) == cost.dense
    kept = Structure.of([[0], [1, 2], []], [[5], [], range(9)])
    masks.keep(kept)
    assert round(float(masks.expected().detach())) == cost.of(kept)
    with torch.no_grad():
        for block in masks.blocks.values():
            block.fill_(-100.0)
    assert round(float(masks.expected().detach())) == sum(cost.fixed)


def test_log_alphas_stay_where_their_gradient_lives(cost: Cost) -> None:
    masks = Masks(cost)
    with torch.no_grad():
        masks.units[ATTENTION].fill_(50.0)
    masks.clamp()
    assert abs(float(masks.units[ATTENTION].detach().max()) - CLAMP) < 1e-6


def test_scores_of_dropped_units_are_minus_infinity(cost: Cost) -> None:
    masks = Masks(cost)
    masks.keep(Structure.of([[0], [1], [2]], [[0], [1], [2]]))
    kept = np.flatnonzero(masks.scores().units > -math.inf)
    assert kept.tolist() == [0, 4 + 1, 8 + 2, 12 + 0, 12 + 128 + 1, 12 + 256 + 2]


def test_blocks_of_several_sizes_have_masks_of_their_own() -> None:
    """As in a model that was pruned already: some blocks are narrow, one is gone."""
    anatomy = transformer([2, 0, 4], [5, 3, 0])
    cost = Additive(anatomy, (10, 0, 10, 3, 3, 0), (1, 0, 1, 2, 2, 0), (7, 7, 7), outside=0)
    masks = Masks(cost)
    for gates in (masks.draw(torch.Generator().manual_seed(0)), masks.median()):
        assert (len(gates.units), len(gates.blocks)) == (14, 6)
    assert np.isfinite(masks.scores().units).all() and len(masks.scores().units) == 14
    with torch.no_grad():
        for parameter in masks.parameters():
            parameter.fill_(100.0)
    assert round(float(masks.expected().detach())) == cost.dense == 60 + 2 + 24 + 4 + 21
    masks.keep(Structure.of([[1], [], [0, 3]], [[4], [], []]))
    assert round(float(masks.expected().detach())) == 30 + 2 + 3 + 2 + 21
