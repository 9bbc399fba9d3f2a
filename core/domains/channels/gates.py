"""The gated network: as if channels were gone, or partly there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from core.domains.channels.graph import Graph
from core.domains.structure import Structure


@contextmanager
def gated(model: nn.Module, graph: Graph, gates: Tensor, present: Structure) -> Iterator[None]:
    """Run `model`, which has the units of `present`, under `gates`: (units,), as `graph`, the dense model's, counts.

    Whoever reads a unit reads gate * unit: the input columns of convolutions and linear layers are multiplied, not
    activations, since what a channel of zeros becomes (a bias, a sigmoid) need not be zero. With gates of 0 and 1 it is
    exactly what `cut` leaves. Differentiable in `gates` and in the weights.
    """
    values = torch.cat([gates, gates.new_ones(1)])  # the last is what PINNED reads
    has = graph.has(present)
    before: list[tuple[nn.Module, str, nn.Parameter]] = []
    try:
        for name, units in graph.readers.items():
            path, _, part = name.rpartition(".")
            module = model.get_submodule(path)
            weight = module._parameters[part]
            assert weight is not None
            there = [unit for unit in units if has[unit]]
            columns = values[torch.tensor(there, device=values.device)].to(weight.dtype)
            before.append((module, part, weight))
            del module._parameters[part]
            setattr(module, part, weight * columns.view(1, -1, *[1] * (weight.ndim - 2)))
        yield
    finally:
        for module, part, weight in before:
            module.__dict__.pop(part, None)
            module._parameters[part] = weight
