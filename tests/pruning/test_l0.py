"""`l0`: when its masks move."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from torch import Tensor

from core.domains.cost import Cost
from core.domains.fit import Scores
from core.domains.gates import Gates, Masks
from core.domains.network import TARGET
from core.domains.structure import Structure
from core.domains.transformer.network import TransformerNetwork
from core.pruning.masking.l0 import prune
from core.pruning.scoring import fitter as module
from core.pruning.scoring.fitter import Fitter
from core.pruning.training import weighting
from core.pruning.training.coupling import TaskRows, add_heads, phases
from core.pruning.training.train import Training
from tests.tiny import stream


def test_no_mask_closes_before_rows_come_that_may_move_it(network: TransformerNetwork, cost: Cost, tiny: Path) -> None:
    """By the size alone all masks would close alike, and units go by their number."""
    target, source, dev = (stream(tiny, 24, seed).rows for seed in range(3))
    tasks = TaskRows(target, TARGET, 2), TaskRows(source, "source0", 2)
    plan = phases("sequential", "prune", True, tasks[0], [tasks[1]], 8, ["weights"])
    add_heads(network, plan, [tasks[1]])
    seen: list[tuple[Scores, Structure]] = []

    def fit(scores: Scores, *limits: Any, **named: Any) -> Structure:
        seen.append((scores, original(scores, *limits, **named)))
        return seen[-1][1]

    limit = sum(cost.fixed) + (cost.dense - sum(cost.fixed)) // 5
    original = module.fit
    with patch.object(module, "fit", fit):
        structure, _ = prune(network, Fitter(cost, limit, fit), plan, dev, Training(80, 1e-3, 0))
    assert cost.of(structure) <= limit
    half = len(seen) // 2
    for scores, kept in seen[: half - 1]:
        assert len(np.unique(scores.units)) == 1 and kept == Structure.dense(cost.anatomy)
    found = seen[-1][0].units[np.isfinite(seen[-1][0].units)]
    assert len(np.unique(found)) > len(found) / 2


def test_sources_are_weighed_under_the_masks(
    network: TransformerNetwork, cost: Cost, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a mask has closed has no say in how far they agree."""
    target, source, dev = (stream(tiny, 24, seed).rows for seed in range(3))
    tasks = TaskRows(target, TARGET, 2), TaskRows(source, "source0", 2)
    plan = phases("joint", "prune", True, tasks[0], [tasks[1]], 8)
    add_heads(network, plan, [tasks[1]])
    median, gradient, seen = Masks.median, weighting.gate_gradient, list[Tensor]()

    def closed(masks: Masks) -> Gates:
        gates = median(masks)
        units = gates.units.clone()
        units[1] = 0.0
        return replace(gates, units=units)

    def traced(*given: Any) -> Tensor:
        seen.append(gradient(*given))
        return seen[-1]

    monkeypatch.setattr(Masks, "median", closed)
    monkeypatch.setattr(weighting, "gate_gradient", traced)
    prune(network, Fitter(cost, cost.dense), plan, dev, Training(2, 1e-3, 0, learned_weights=True))
    assert len(seen) == 6  # of the dev rows and both streams, twice
    assert all(one[1] == 0 and (one[[0, 2, 3]] != 0).all() for one in seen)
