"""How large the weights that produce each unit are, as norms behind them scale them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.domains.channels.graph import Graph


def norms(model: Any, graph: Graph) -> list[Tensor]:
    """Root mean square of the rows that produce each unit, of the units of each block. Differentiable.

    Rows of a convolution or linear layer count as BatchNorm behind it scales them: times gamma / sqrt(variance + eps),
    without which their size says nothing.
    """
    parameters = dict(model.named_parameters())
    where = next(iter(parameters.values())).device
    total, count = (torch.zeros(graph.anatomy.size, device=where) for _ in range(2))
    for name, scale in scales(model, graph).items():
        units = torch.tensor(graph.weights[name].sides[0], device=where)
        squares = parameters[name].flatten(1).square().mean(1) * scale
        there = units >= 0
        total = total.index_add(0, units[there], squares[there])
        count = count.index_add(0, units[there], torch.ones_like(squares[there]))
    sizes = (total / count.clamp(min=1)).clamp(min=1e-16).sqrt()
    return [sizes[span] for span in graph.anatomy.spans]


def column_sizes(model: Any, graph: Graph) -> Tensor:
    """Root mean square of the weights by which each reader reads each unit: (columns,), of a network with all units."""
    parameters, columns = dict(model.named_parameters()), graph.columns
    where = next(iter(parameters.values())).device
    total = torch.zeros(len(columns.unit), device=where)
    for path, name in zip(columns.paths, columns.names, strict=True):
        units = np.array(graph.weights[name].sides[1], np.int64)
        squares = parameters[name].detach().transpose(0, 1).flatten(1).square().mean(1)
        there = torch.from_numpy(np.flatnonzero(units >= 0)).to(where)
        index = torch.from_numpy(columns.where(path, units[units >= 0])).to(where)
        total = total.index_add(0, index, squares[there].to(total.dtype))
    return (total / torch.from_numpy(columns.count).to(where)).sqrt()


def scales(model: Any, graph: Graph) -> dict[str, Tensor]:
    """Weight of each layer that produces units -> what the norm behind it multiplies each row's square by, (rows,).

    A norm is behind the layer that comes before it in the model's own order, where its channels are those.
    """
    found: dict[str, Tensor] = {}
    last = ""
    for path, module in model.named_modules():
        name, weight = f"{path}.weight", graph.weights.get(f"{path}.weight")
        if weight is not None and weight.positions and 0 in weight.sides:
            found[name], last = torch.ones(weight.shape[0], device=module.weight.device), name
        elif last and weight is not None and getattr(module, "running_var", None) is not None:
            if weight.sides.get(0) == graph.weights[last].sides[0]:
                found[last] = module.weight.square() / (module.running_var + module.eps)
            last = ""
    return found
