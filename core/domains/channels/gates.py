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

WHOLE = "_whole"  # of a module: its parameters that a product stands for now


@contextmanager
def gated(
    model: nn.Module, graph: Graph, gates: Tensor, present: Structure, columns: Tensor | None = None
) -> Iterator[None]:
    """Run `model`, which has the units of `present`, under `gates`: (units,), as `graph`, the dense model's, counts.

    Whoever reads a unit reads gate * unit: the input columns of convolutions and linear layers are multiplied, not
    activations, since what a channel of zeros becomes (a bias, a sigmoid) need not be zero. With gates of 0 and 1 it is
    exactly what `cut` leaves. Gates inside others multiply. `columns`: (columns,) of `graph`, multiply what one reader
    reads of a unit; they are of a network with all units. Differentiable in gates and weights.
    """
    has, readers = graph.has(present), _readers(model, graph)
    there = [units[has[units]] for _, units in readers]
    index = torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *there])).to(gates.device)
    values = torch.cat([gates, gates.new_ones(1)])[index]  # the last is what PINNED reads
    if columns is not None:
        values = values * torch.cat([columns, columns.new_ones(1)])[_columns(model, graph).to(columns.device)]
    parts = torch.split(values, [len(units) for units in there])
    before: list[tuple[nn.Module, str, Tensor]] = []
    try:
        for ((module, part, _), _), gate in zip(readers, parts, strict=True):
            weight = getattr(module, part)  # a product already, inside other gates
            product = weight * gate.to(weight.dtype).view(1, -1, *[1] * (weight.ndim - 2))  # first: memory may end here
            before.append((module, part, weight))
            if isinstance(weight, nn.Parameter):
                del module._parameters[part]
                module.__dict__.setdefault(WHOLE, {})[part] = weight
            setattr(module, part, product)
        yield
    finally:
        for module, part, weight in before:
            if isinstance(weight, nn.Parameter):
                del module.__dict__[part], module.__dict__[WHOLE][part]
                module._parameters[part] = weight
            else:
                setattr(module, part, weight)


def _readers(model: nn.Module, graph: Graph) -> list[tuple[tuple[nn.Module, str, str], NDArray[np.int64]]]:
    """Each module that holds a reader's weight (tied ones are several's), with its name in `graph`, and the unit of
    each input column."""
    units = {name: np.array(columns, np.int64) for name, columns in graph.readers.items()}
    names: dict[nn.Parameter, str] = {}
    found = []
    for path, module in model.named_modules():
        for part, weight in [*module._parameters.items(), *module.__dict__.get(WHOLE, {}).items()]:
            if weight is None:
                continue
            name = names.setdefault(weight, f"{path}.{part}".removeprefix("."))
            if name in units:
                found.append(((module, part, name), units[name]))
    return found


def _columns(model: nn.Module, graph: Graph) -> Tensor:
    """The column of every input channel of each such module, the last for PINNED."""
    found = [np.zeros(0, np.int64)]
    for (_, _, name), units in _readers(model, graph):
        where = graph.columns.where(graph.weights[name].reader, units)
        found.append(np.where(units < 0, len(graph.columns.unit), where))
    return torch.from_numpy(np.concatenate(found))
