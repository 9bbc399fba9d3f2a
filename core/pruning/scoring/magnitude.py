"""`magnitude`: units ranked by the size of their weights, which no row has a say in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.domains.fit import Scores
from core.domains.network import Network
from core.pruning.scoring.fitter import Fitter


def magnitude(network: Network, fitter: Fitter, *_rows: Any, **_options: Any) -> Scores:
    """Root mean square of a unit's weights against the mean of its block; each kind of block is ranked apart."""
    sizes = np.concatenate([(block / block.mean()).detach().double().cpu().numpy() for block in network.norms()])
    units = np.concatenate([ranks(sizes[part]) for _, part in fitter.cost.anatomy.kinds.values()])
    return Scores(units, ranks(network.stream_norms().double().cpu().numpy()) if fitter.hidden else None)


def ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Place of each score among all of its kind, in parts of 1: so that kinds that do not compare are cut alike."""
    order = scores.ravel().argsort(kind="stable").argsort(kind="stable")
    return ((order + 0.5) / scores.size).reshape(scores.shape)
