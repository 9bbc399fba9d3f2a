"""Remove channels physically: slice the weights where the graph says their units lie."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.domains.channels.graph import Graph
from core.domains.channels.own_readers.keep import Runs
from core.domains.channels.own_readers.reads import is_reader, read_apart
from core.domains.channels.resize import put, shapes_from
from core.domains.structure import Structure


def cut(model: nn.Module, graph: Graph, structure: Structure, optimizer: torch.optim.Optimizer | None = None) -> Graph:
    """Cut `model` in place to `structure`, which counts as `graph` does, the model's own; returns the cut one's graph.

    With `optimizer`, its moments are cut alike and it goes on with the new parameters. Gradients are dropped.
    """
    sliced, apart = slicer(graph, structure), reads_of(model, graph, structure)
    new: dict[int, Tensor] = {}
    names = {id(tensor): name for name, tensor in tensors(model)}
    for module in model.modules():
        for name, old in [*module._parameters.items(), *module._buffers.items()]:
            if old is None or not graph.weights[names[id(old)]].sides:
                continue
            if id(old) not in new:
                part = sliced(names[id(old)], old.detach())
                new[id(old)] = nn.Parameter(part, old.requires_grad) if isinstance(old, nn.Parameter) else part
            put(module, name, new[id(old)])
    read_apart(model, apart)
    if optimizer is not None:
        _carry_over(optimizer, names, new, sliced)
    return graph.cut(structure)


def slicer(graph: Graph, structure: Structure) -> Callable[[str, Tensor], Tensor]:
    """Give a function of a weight's name and a tensor of its shape, that keeps what `structure` does."""
    keeping = graph.keeping(structure)

    def sliced(name: str, tensor: Tensor) -> Tensor:
        weight = graph.weights[name]
        for side in weight.sides:
            index = torch.from_numpy(keeping.index(weight, side))
            tensor = tensor.index_select(side, index.to(tensor.device))
        return tensor

    return sliced


def tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Every parameter and buffer once, as a graph names them."""
    return [*model.named_parameters(), *model.named_buffers()]


def reshape(model: nn.Module, graph: Graph, structure: Structure) -> Graph:
    """Give `model` the shapes that `cut` would, in place; weights have to be loaded afterwards."""
    small, apart = graph.cut(structure), reads_of(model, graph, structure)
    shapes_from(model, {name: weight.shape for name, weight in small.weights.items() if weight.sides})
    read_apart(model, apart)
    return small


def reads(graph: Graph, structure: Structure) -> dict[str, Runs]:
    """Weight of each reader that leaves out what others read -> which of the channels that are left it reads."""
    keeping = graph.keeping(structure)
    found = {name: keeping.reads(weight) for name, weight in graph.weights.items() if weight.reader}
    return {name: runs for name, runs in found.items() if runs}


def reads_of(model: nn.Module, graph: Graph, structure: Structure) -> dict[str, Runs]:
    """Path of each layer -> which channels it reads, where it leaves some out. Of a tied weight all read alike."""
    apart = reads(graph, structure)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {path: names[id(module.weight)] for path, module in model.named_modules() if is_reader(module)}
    return {path: apart[name] for path, name in found.items() if name in apart}


def _carry_over(
    optimizer: torch.optim.Optimizer,
    names: dict[int, str],
    new: dict[int, Tensor],
    sliced: Callable[[str, Tensor], Tensor],
) -> None:
    for group in optimizer.param_groups:
        kept = []
        for old in group["params"]:
            parameter = new.get(id(old), old)
            kept.append(parameter)
            if parameter is not old and (state := optimizer.state.pop(old, None)):
                optimizer.state[parameter] = {
                    key: sliced(names[id(old)], value)
                    if isinstance(value, Tensor) and value.shape == old.shape
                    else value
                    for key, value in state.items()
                }
        group["params"] = kept
