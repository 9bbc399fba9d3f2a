"""Hard-concrete masks: formulas, and the faults of reference codes that ours must not have (docs/methods/l0.md)."""

from __future__ import annotations

import math

import torch

from core.pruning.masks import CLAMP, SHIFT, START, Masks, alive, sample
from core.spec.cost import CostModel
from core.spec.structure import Structure


def test_survival_probability_is_that_of_the_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    for a in (-3.0, -1.5986, 0.0, 2.0):
        drawn = sample(torch.full((200_000,), a), generator)
        assert abs((drawn > 0).float().mean() - alive(torch.tensor(a))) < 5e-3
    assert abs(SHIFT - 1.5986) < 1e-4


def test_pruning_starts_at_the_dense_model(cost: CostModel) -> None:
    """Reference codes start intermediate masks near 0.5, a shock at step 1."""
    masks = Masks(cost)
    gates = masks.median()
    assert all((gate == 1).all() for gate in (gates.heads, gates.neurons, gates.attention, gates.ffn))
    drawn = sample(torch.full((100_000,), START), torch.Generator().manual_seed(0))
    assert drawn.mean() > 0.9


def test_expected_cost_is_exact_at_the_ends(cost: CostModel) -> None:
    masks = Masks(cost)
    with torch.no_grad():
        for parameter in masks.parameters():
            parameter.fill_(100.0)
    assert round(float(masks.expected().detach())) == cost.dense
    kept = Structure.of([[0], [1, 2], []], [[5], [], range(9)])
    masks.keep(kept)
    assert round(float(masks.expected().detach())) == cost.encoder(kept)
    with torch.no_grad():
        masks.attention.fill_(-100.0)
        masks.ffn.fill_(-100.0)
    assert round(float(masks.expected().detach())) == cost.encoder_fixed


def test_log_alphas_stay_where_their_gradient_lives(cost: CostModel) -> None:
    masks = Masks(cost)
    with torch.no_grad():
        masks.heads.fill_(50.0)
    masks.clamp()
    assert abs(float(masks.heads.detach().max()) - CLAMP) < 1e-6


def test_scores_of_dropped_units_are_minus_infinity(cost: CostModel) -> None:
    masks = Masks(cost)
    masks.keep(Structure.of([[0], [1], [2]], [[0], [1], [2]]))
    scores = masks.scores()
    assert (scores.heads > -math.inf).sum() == 3
    assert (scores.neurons > -math.inf).sum() == 3
