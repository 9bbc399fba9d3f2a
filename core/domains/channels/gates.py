"""The gated network: as if channels were gone, or partly there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.domains.channels.graph import Graph
from core.domains.structure import Structure


@contextmanager
def gated(
    model: nn.Module, graph: Graph, gates: Tensor, present: Structure, columns: Tensor | None = None
) -> Iterator[None]:
    """Run `model`, which has the units of `present`, under `gates`: (units,), as `graph`, the dense model's, counts.

    Whoever reads a unit reads gate * unit: the input columns of convolutions and linear layers are multiplied, not
    activations, since what a channel of zeros becomes (a bias, a sigmoid) need not be zero. With gates of 0 and 1 it is
    exactly what `cut` leaves. `columns`: (columns,) of `graph`, multiply what one reader reads of a unit; they are of a
    network with all units. Differentiable in gates and weights.
    """
    has, readers = graph.has(present), _readers(model, graph)
    there = [units[has[units]] for _, units in readers]
    index = torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *there])).to(gates.device)
    values = torch.cat([gates, gates.new_ones(1)])[index]  # the last is what PINNED reads
    if columns is not None:
        values = values * torch.cat([columns, columns.new_ones(1)])[_columns(model, graph).to(columns.device)]
    parts = torch.split(values, [len(units) for units in there])
    before: list[tuple[nn.Module, str, nn.Parameter]] = []
    try:
        for ((module, part, weight), _), gate in zip(readers, parts, strict=True):
            before.append((module, part, weight))
            del module._parameters[part]
            setattr(module, part, weight * gate.to(weight.dtype).view(1, -1, *[1] * (weight.ndim - 2)))
        yield
    finally:
        for module, part, weight in before:
            module.__dict__.pop(part, None)
            module._parameters[part] = weight


def _readers(model: nn.Module, graph: Graph) -> list[tuple[tuple[nn.Module, str, nn.Parameter], NDArray[np.int64]]]:
    """Each module that holds a reader's weight (tied ones are several's), and the unit of each input column."""
    units = {name: np.array(columns, np.int64) for name, columns in graph.readers.items()}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        ((module, part, weight), units[names[id(weight)]])
        for module in model.modules()
        for part, weight in module._parameters.items()
        if weight is not None and names[id(weight)] in units
    ]


def _columns(model: nn.Module, graph: Graph) -> Tensor:
    """The column of every input channel of each such module, the last for PINNED."""
    found = [np.zeros(0, np.int64)]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for (_, _, weight), units in _readers(model, graph):
        where = graph.columns.where(graph.weights[names[id(weight)]].reader, units)
        found.append(np.where(units < 0, len(graph.columns.unit), where))
    return torch.from_numpy(np.concatenate(found))
