"""Scores of units against gradients taken row by row; what is dead scores nothing; what is fixed has no say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.domains.cost import Cost
from core.domains.gates import Gates
from core.domains.structure import Structure
from core.domains.transformer.cut import cut
from core.domains.transformer.gates import gated
from core.domains.transformer.network import TransformerNetwork
from core.pruning.scoring import importance as module
from core.pruning.scoring.fitter import Fitter
from core.pruning.scoring.importance import HEADS, importance
from core.pruning.training.coupling import Phase, Stream
from tests.builders import by_layer
from tests.tiny import stream


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "autocast", lambda _: torch.autocast("cpu", enabled=False))


def by_rows(network: TransformerNetwork, cost: Cost, rows: Stream) -> tuple[np.ndarray, np.ndarray]:
    """Mean over rows of the squared gradients of both logits, one row and one logit at a time."""
    dense = Structure.dense(cost.anatomy)
    gates = Gates.of(dense, cost.anatomy)
    gates.units.requires_grad_()
    total = torch.zeros(cost.anatomy.size)
    for row in range(len(rows.rows)):
        for logit in range(2):
            with gated(network, gates, dense):
                said = network.logits(rows.rows.collate([row]))[0, logit]
            total += torch.autograd.grad(said, gates.units)[0].square() / len(rows.rows)
    heads, neurons = by_layer(network.architecture, total.numpy())
    return heads * HEADS / cost.unit[0], neurons / cost.unit[-1]


def test_scores_are_mean_squared_gradients_of_the_logits(network: TransformerNetwork, cost: Cost, tiny: Path) -> None:
    target = stream(tiny, 16, seed=0)
    heads, neurons = by_rows(network, cost, target)
    batches = 400
    found = importance(network, Fitter(cost, 0), [Phase((target,))], 0, batches)
    for exact, estimate in zip((heads, neurons), by_layer(network.architecture, found.units), strict=True):
        per_row = estimate * 2 / (batches * 16)  # two logits count as one
        assert np.corrcoef(exact.ravel(), per_row.ravel())[0, 1] > 0.97
        assert per_row.mean() == pytest.approx(exact.mean(), rel=0.25)  # a chi-square of 400 draws


def test_a_unit_that_reaches_nothing_scores_nothing_and_a_cut_network_keeps_its_numbers(
    network: TransformerNetwork, cost: Cost, tiny: Path
) -> None:
    layer = network.body.bert.encoder.layer[1]
    with torch.no_grad():
        layer.output.dense.weight[:, 7] = 0
    target = stream(tiny, 16, seed=0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    scores = importance(network, Fitter(cost, 0), [Phase((target,))], 0, 4)
    neurons = by_layer(network.architecture, scores.units)[1]
    assert neurons[1, 7] == 0 < np.delete(neurons[1], 7).min()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    cut(network, Structure.of([range(2), range(4), []], [range(128), range(3), range(5)]))
    scores = importance(network, Fitter(cost, 0), [Phase((target,))], 0, 4)
    assert len(scores.units) == 2 + 4 + 0 + 128 + 3 + 5 and np.isfinite(scores.units).all()


def test_rows_that_may_not_move_masks_have_no_say(network: TransformerNetwork, cost: Cost, tiny: Path) -> None:
    target, source = stream(tiny, 16, seed=0), stream(tiny, 16, seed=1)
    alone = importance(network, Fitter(cost, 0), [Phase((target,))], 0, 4)
    fixed = importance(network, Fitter(cost, 0), [Phase((target, replace(source, masks="fixed")))], 0, 4)
    shared = importance(network, Fitter(cost, 0), [Phase((target, source))], 0, 4)
    assert np.array_equal(alone.units, fixed.units)
    assert not np.array_equal(alone.units, shared.units)


def test_rows_of_a_task_that_was_never_taught_are_asked_through_the_targets_head(
    network: TransformerNetwork, cost: Cost, tiny: Path
) -> None:
    target, source = stream(tiny, 16, seed=0), stream(tiny, 16, seed=1)
    found = []
    for name in ("source0", "source1"):  # random numbers follow from the name
        network.add_head(name, 3)
        found.append(importance(network, Fitter(cost, 0), [Phase((target, replace(source, head=name)))], 0, 4))
    assert np.array_equal(found[0].units, found[1].units)
    known = replace(source, head="source0", rows=replace(source.rows, logits=torch.zeros(16, 3)))
    assert not np.array_equal(
        found[0].units, importance(network, Fitter(cost, 0), [Phase((target, known))], 0, 4).units
    )


def test_units_that_are_nearly_free_share_what_their_block_takes(
    network: TransformerNetwork, cost: Cost, tiny: Path
) -> None:
    """By a latency table most of an attention block may be its own: its heads are not worth everything for that."""
    plan = [Phase((stream(tiny, 16, seed=0),))]
    counted = importance(network, Fitter(cost, 0), plan, seed=0, batches=2)
    heads = [block.size for block in cost.anatomy.blocks[:3]]
    apart = [count * price - count for count, price in zip(heads, cost.unit, strict=False)]
    timed = replace(cost, unit=(1, 1, 1, *cost.unit[3:]), block=(*apart, 0, 0, 0), measured=True)
    found = importance(network, Fitter(timed, 0), plan, seed=0, batches=2)
    np.testing.assert_allclose(found.units, counted.units)
