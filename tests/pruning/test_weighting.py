"""A source that agrees with the target gains weight; one that contradicts it loses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from core.domains.structure import Structure
from core.domains.transformer.cut import cut
from core.domains.transformer.network import TransformerNetwork
from core.pruning.training.coupling import Phase
from core.pruning.training.train import Training, train
from core.pruning.training.weighting import LearnedWeights, gate_gradient
from tests.tiny import stream


def test_agreeing_source_outweighs_a_contradicting_one(network: TransformerNetwork, tiny: Path) -> None:
    target, dev, same, other = (stream(tiny, 64, seed) for seed in range(4))
    flipped = replace(other, rows=replace(other.rows, labels=1 - other.rows.labels))
    train(network, [Phase((target,))], dev.rows, Training(20, 1e-3, seed=0), stage="teach", metric="accuracy")
    weights = LearnedWeights([target, same, flipped], dev.rows, steps=24, seed=0)
    assert weights.values() == [1.0, 1.0, 1.0]
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 25):
        drawn = [torch.randperm(64, generator=generator)[:16].tolist() for _ in range(3)]
        weights.update(network, step, drawn)
    _, agreeing, contradicting = weights.values()
    assert contradicting < 0.2 < 1.0 < agreeing
    assert weights.streams[2].label_weight == contradicting
    assert len(weights.curve) == 24 and abs(sum(weights.values()) - 3) < 1e-5


def test_gate_gradient_exists_at_any_structure(network: TransformerNetwork, tiny: Path) -> None:
    one = stream(tiny, 16, 0)
    assert gate_gradient(network, one, range(16)).abs().sum() > 0
    cut(network, Structure.of([[0], [], [1, 2]], [[], [1, 2], []]))
    assert gate_gradient(network, one, range(16)).abs().sum() > 0
    cut(network, Structure.of([[], [], []], [[], [], []]))
    assert gate_gradient(network, one, range(16)).abs().sum() == 0


def test_an_update_looks_without_dropout_and_leaves_the_network_training(
    network: TransformerNetwork, tiny: Path
) -> None:
    target = stream(tiny, 16, 0)
    network.train()
    found = []
    for seed in (1, 2):  # of the dropout, were there any
        torch.manual_seed(seed)
        weights = LearnedWeights([target, target], target.rows, steps=1, seed=0)
        weights.update(network, 1, [list(range(16)), list(range(8))])
        found.append(weights.omega.tolist())
    assert found[0] == found[1] and network.training
