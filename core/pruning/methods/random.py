"""`random`: units drawn by the seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from core.domains.channels.cost import Bilinear
from core.domains.fit import Scores
from core.domains.network import Network
from core.pruning.methods import Scored
from core.pruning.scoring.fitter import Fitter

FACTS = {
    "what": "drops units at random, by the seed",
    "needs": "nothing",
    "cost": "none; no steps in the prune stage",
    "use": "a control: what recovery alone is worth",
    "source": "after Prasanna et al., EMNLP 2020 (arXiv 2005.00561)",
    "reads_rows": False,
}


def at_random(network: Network, fitter: Fitter, _plan: Sequence[Any], seed: int, **_options: Any) -> Scores:
    """Units drawn alike over all blocks, and what readers read of them, for its cost."""
    rng = np.random.default_rng(seed)
    units, hidden = rng.random(fitter.cost.anatomy.size), rng.random(network.stream) if fitter.hidden else None
    if not isinstance(fitter.cost, Bilinear) or fitter.cost.own is None:
        return Scores(units, hidden)
    return Scores(units, hidden, rng.random(network.columns) * fitter.cost.own.each(fitter.cost.sizes))


prune = Scored(at_random)
