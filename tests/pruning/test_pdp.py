"""PDP's mask by its formula, exact counts, and an end without any soft mask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from core.domains.cost import Cost
from core.domains.gates import Gates
from core.domains.structure import Structure
from core.domains.transformer.magnitude import norms
from core.domains.transformer.network import TransformerNetwork
from core.domains.transformer.parts import units
from core.pruning.masking.pdp import KAPPA, Units, gated_loss, prune, soft_mask, threshold
from core.pruning.methods import Scored, pruning
from core.pruning.scoring.fitter import Fitter
from core.pruning.training.coupling import Phase
from core.pruning.training.train import Training, dev_scores, optimizer_for
from tests.draws import draws
from tests.tiny import stream


@pytest.mark.parametrize("tau", [None, 1e-2])
def test_the_gradient_is_the_formula_with_the_threshold_held_fixed(tau: float | None) -> None:
    """d(m w)/dw = m + (2 w^2 / tau) m (1 - m)."""
    w = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = soft_mask(w, 120, tau)
    (found,) = torch.autograd.grad((mask * w).sum(), w)
    used = KAPPA * threshold(w, 120).square() if tau is None else tau
    wanted = mask + 2 * w.square() / used * mask * (1 - mask)
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-12, atol=1e-12)
    assert ((mask > 0.01) & (mask < 0.99)).any()  # soft somewhere, or nothing was tested


@draws()
@given(
    sizes=st.lists(st.integers(1, 10_000), min_size=2, max_size=60, unique=True),
    share=st.floats(0, 1),
    sign=st.sampled_from([-1, 1]),
)
def test_as_many_as_asked_are_below_one_half_and_they_are_the_smallest(
    sizes: list[int], share: float, sign: int
) -> None:
    values = sign * torch.tensor(sizes, dtype=torch.float64) / 100
    dropped = round(share * (len(sizes) - 1))
    mask = soft_mask(values, dropped)
    assert set(values.abs().argsort()[:dropped].tolist()) == set((mask < 0.5).nonzero().flatten().tolist())


def test_nothing_to_drop_leaves_the_network_as_it_is(network: TransformerNetwork, cost: Cost) -> None:
    assert torch.equal(soft_mask(torch.tensor([0.0, 1e-9, 3.0]), 0), torch.ones(3))
    course = Units(network, Fitter(cost, cost.dense // 2))
    assert course.gates(0.0) is None
    gates = course.gates(1.0)
    assert gates is not None and 0 < int((gates.units < 0.5).sum()) < gates.units.numel()


def test_a_unit_and_its_block_are_masked_once(network: TransformerNetwork, cost: Cost) -> None:
    """Also where the largest unit of a block is half masked itself."""
    course = Units(network, Fitter(cost, cost.dense // 2))
    gates = course.gates(0.7)
    assert gates is not None and (gates.blocks[:3] < 0.9).any()
    wanted = torch.cat([soft_mask(size, course.dropped(size, 0.7)) for size in course.sizes()])
    blocks = gates.blocks.repeat_interleave(torch.tensor([block.size for block in cost.anatomy.blocks]))
    torch.testing.assert_close(gates.units * blocks, wanted)


def test_where_more_is_gone_than_is_to_be_dropped_masks_stay_numbers(network: TransformerNetwork, cost: Cost) -> None:
    """As where a latency table has made whole blocks go: the threshold is 0."""
    course = Units(network, Fitter(cost, cost.dense // 2))
    course._cut(Structure.of([[0], [], []], [[0, 1], [], []]), optimizer_for(network, 1e-3))
    gates, scores = course.gates(0.3), course.scores(0.3)
    assert gates is not None and gates.units[12:14].tolist() == [1, 1]  # after three layers of four heads
    assert gates.units.isfinite().all() and gates.blocks.isfinite().all()
    assert (scores.units[12:14] > 0).all() and not np.isnan(scores.units).any()
    gates.units.sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("share", [0.05, 0.15, 0.5, 1.0])
def test_it_ends_cut_to_the_budget_and_what_was_looked_at_last_is_what_is_left(
    share: float, network: TransformerNetwork, cost: Cost, tiny: Path
) -> None:
    plan, dev, limit = [Phase((stream(tiny, 16, seed=0),))], stream(tiny, 20, seed=5).rows, int(share * cost.dense)
    structure, history = prune(network, Fitter(cost, limit), plan, dev, Training(10, 1e-3, seed=0))
    assert 0 <= limit - cost.of(structure) < max(0.01 * limit, cost.marginal(3, 0))  # a neuron, and its block
    assert units(network).sizes() == structure.sizes()
    assert dev_scores(network, dev)["loss"] == history.points[-1]["loss"]


@pytest.mark.parametrize("method", ["l0", "pdp"])
def test_what_learns_its_masks_keeps_a_head_at_the_smallest_size(
    method: str, network: TransformerNetwork, cost: Cost, tiny: Path
) -> None:
    plan, dev = [Phase((stream(tiny, 16, seed=0),))], stream(tiny, 20, seed=5).rows
    trained = pruning(method)
    assert not isinstance(trained, Scored)
    structure, _ = trained(network, Fitter(cost, cost.smallest), plan, dev, Training(10, 1e-3, seed=0))
    assert (sum(map(len, structure.heads)), sum(map(len, structure.neurons))) == (1, 0)
    assert cost.of(structure) == cost.smallest


def test_sources_that_come_first_leave_their_sizes_by_weight(
    network: TransformerNetwork, cost: Cost, tiny: Path
) -> None:
    source = replace(stream(tiny, 16, seed=1), label_weight=3.0)
    for masks in ("shared", "fixed"):
        course = Units(network, Fitter(cost, cost.dense // 2))
        before = course.sizes()[0].detach()
        course.borrow([replace(source, masks=masks)])
        with torch.no_grad():
            for parameter in network.body.parameters():
                parameter.mul_(2)
        wanted = (2 * before + 3 * before) / 4 if masks == "shared" else 2 * before
        torch.testing.assert_close(course.sizes()[0], wanted)


def test_what_is_gone_has_no_size_though_a_source_has_lent_it_one(
    network: TransformerNetwork, cost: Cost, tiny: Path
) -> None:
    course = Units(network, Fitter(cost, cost.dense // 10))
    course.borrow([stream(tiny, 16, seed=1)])
    course.thin(1.0, optimizer_for(network, 1e-3))
    sizes = torch.cat(course.sizes())
    assert [int((sizes[span] > 0).sum()) for span in cost.anatomy.spans] == [*map(len, course.present.kept)]
    assert [*map(len, course.present.neurons)] != [128] * 3


def test_rows_that_share_no_masks_see_them_and_move_none(network: TransformerNetwork, tiny: Path) -> None:
    present = units(network)
    ones = Gates.of(present, present.anatomy)
    gates = replace(ones, units=(0.5 * ones.units).requires_grad_())
    target = stream(tiny, 8, seed=0)
    losses = [gated_loss(network, [replace(target, masks=m)], [range(8)], gates, present) for m in ("shared", "fixed")]
    assert losses[0].item() == pytest.approx(losses[1].item())
    shared, fixed = (torch.autograd.grad(loss, gates.units, allow_unused=True)[0] for loss in losses)
    assert shared.abs().sum() > 0 and fixed is None


def test_a_masks_gradient_reaches_the_weights_of_its_unit_alone(network: TransformerNetwork) -> None:
    heads = norms(network)[0]
    (gradient,) = torch.autograd.grad(heads[1], network.body.bert.encoder.layer[0].attention.self.key.weight)
    size = network.architecture.head_size
    assert (gradient[size : 2 * size] != 0).all() and (gradient[:size] == 0).all() and (gradient[2 * size :] == 0).all()
