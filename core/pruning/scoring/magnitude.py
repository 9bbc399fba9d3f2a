"""`magnitude`: units ranked by the size of their weights, which no row has a say in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.domains.channels.cost import Bilinear
from core.domains.fit import Scores
from core.domains.network import Network
from core.pruning.scoring.fitter import Fitter


def magnitude(network: Network, fitter: Fitter, *_rows: Any, **_options: Any) -> Scores:
    """Root mean square of a unit's weights against the mean of its block; each kind of block is ranked apart."""
    sizes = np.concatenate([(block / block.mean()).detach().double().cpu().numpy() for block in network.norms()])
    units = np.concatenate([ranks(sizes[part]) for _, part in fitter.cost.anatomy.kinds.values()])
    hidden = ranks(network.stream_norms().double().cpu().numpy()) if fitter.hidden else None
    return Scores(units, hidden, columns(network, fitter))


def columns(network: Network, fitter: Fitter) -> NDArray[np.float64] | None:
    """Of what each reader reads of each unit: its cost, times the mean square of its weights against the reader's own.

    None where readers have no columns of their own.
    """
    if not isinstance(fitter.cost, Bilinear) or fitter.cost.own is None:
        return None
    own, sizes = fitter.cost.own, network.column_norms().square().double().cpu().numpy()
    means = np.bincount(own.columns.reader, sizes) / np.maximum(1, np.bincount(own.columns.reader))
    return np.asarray(own.each(fitter.cost.sizes) * sizes / np.maximum(means, 1e-16)[own.columns.reader])


def ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Place of each score among all of its kind, in parts of 1: so that kinds that do not compare are cut alike."""
    order = scores.ravel().argsort(kind="stable").argsort(kind="stable")
    return ((order + 0.5) / scores.size).reshape(scores.shape)
