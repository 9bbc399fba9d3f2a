"""How large the weights of each unit, and of each hidden dimension, are."""

from __future__ import annotations

import torch
from torch import Tensor

from core.domains.network import root_mean_square
from core.domains.structure import ATTENTION, FFN
from core.domains.transformer.cut import residual_slices, slices
from core.domains.transformer.parts import Transformer, hidden_size, units


def norms(network: Transformer) -> list[Tensor]:
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


def stream_norms(network: Transformer) -> Tensor:
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
