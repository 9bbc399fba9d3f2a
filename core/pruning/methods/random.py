"""`random`: units drawn by the seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from core.pruning.fit import Scores
from core.pruning.methods import scored
from core.pruning.network import Network
from core.spec.cost import CostModel

FACTS = {
    "what": "drops units at random, by the seed",
    "needs": "nothing",
    "cost": "none; no steps in the prune stage",
    "use": "a control: what recovery alone is worth",
    "source": "after Prasanna et al., EMNLP 2020 (arXiv 2005.00561)",
    "reads_rows": False,
}


def at_random(
    _network: Network, cost: CostModel, _plan: Sequence[Any], seed: int, hidden: bool = False, **_options: Any
) -> Scores:
    """Heads and neurons drawn alike over all layers."""
    a, rng = cost.architecture, np.random.default_rng(seed)
    heads, neurons = rng.random((a.layers, a.heads)), rng.random((a.layers, a.neurons))
    return Scores(heads, neurons, rng.random(a.hidden) if hidden else None)


prune = scored(at_random)
