"""`magnitude`: units ranked by the size of their weights, which no row has a say in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.domains.fit import Scores
from core.domains.structure import ATTENTION, FFN
from core.domains.transformer.cut import residual_slices, slices
from core.domains.transformer.network import Network, hidden_size, units
from core.pruning.scoring.fitter import Fitter


def norms(network: Network) -> list[Tensor]:
    """Root mean square of each unit's own weights and biases: of the units that each block has. Differentiable."""
    family, present = network.architecture.family, units(network)
    parameters = dict(network.body.named_parameters())
    kinds = present.anatomy.kinds
    weights: list[list[Tensor]] = [[] for _ in present.kept]
    for name, part in slices(network.architecture, present).items():
        if part is None or name not in parameters:
            continue
        layer, path = name.removeprefix(f"{family.base}.{family.layers}.").split(".", 1)
        kind = FFN if path.rpartition(".")[0] in (family.ffn_in, family.gate, family.ffn_out) else ATTENTION
        block = kinds[kind][0].start + int(layer)
        rows = parameters[name].movedim(part.dimension, 0).reshape(part.parts, len(present.kept[block]), -1)
        weights[block].append(rows.movedim(1, 0).flatten(1))  # (units, weights of each)
    return [root_mean_square(torch.cat(parts, 1)) if parts else torch.zeros(0) for parts in weights]


def root_mean_square(rows: Tensor) -> Tensor:
    """Of each row, (rows, columns) -> (rows,); one of zeros has a gradient of zero."""
    return rows.square().mean(1).clamp(min=1e-16).sqrt()


def stream_norms(network: Network) -> Tensor:
    """Root mean square of all weights, the target's head included, that read or write each hidden dimension: (D,)."""
    size = hidden_size(network)
    everything = tuple(range(size))
    parameters = dict(network.named_parameters())
    rows = [
        parameters[name].detach().movedim(part.dimension, 0).reshape(size, -1)
        for name, part in residual_slices(network, everything).items()
        if part is not None
    ]
    return root_mean_square(torch.cat(rows, 1))


def magnitude(network: Network, fitter: Fitter, *_rows: Any, **_options: Any) -> Scores:
    """Root mean square of a unit's weights against the mean of its block; each kind of block is ranked apart."""
    sizes = np.concatenate([(block / block.mean()).detach().double().cpu().numpy() for block in norms(network)])
    units = np.concatenate([ranks(sizes[part]) for _, part in fitter.cost.anatomy.kinds.values()])
    return Scores(units, ranks(stream_norms(network).double().cpu().numpy()) if fitter.hidden else None)


def ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Place of each score among all of its kind, in parts of 1: so that kinds that do not compare are cut alike."""
    order = scores.ravel().argsort(kind="stable").argsort(kind="stable")
    return ((order + 0.5) / scores.size).reshape(scores.shape)
