"""`own_readers`: which layers may read channels of their own (UPSCALE's unconstrained mode, arXiv 2307.08771)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from core.domains.channels.graph import Graph
from core.domains.channels.norms import evaluating
from core.domains.channels.own_readers.reads import is_reader
from core.domains.channels.tracing.trial import agrees, draw
from core.domains.structure import ChannelStructure
from core.spec.errors import SpecError


def own_readers(model: nn.Module, graph: Graph, inputs: Mapping[str, Tensor]) -> Graph:
    """Give the graph in which every reader has columns, and those are free to leave some out that are called by torch.

    As `trace` does, it is tried: copies are cut at random, each reader to its own channels, in an order of their own.
    Raises SpecError('/channels/readers') where that does not answer as the masked network does.
    """
    called = _called(model, inputs)
    holders: dict[int, set[bool]] = {}
    for path, module in model.named_modules():
        for weight in module._parameters.values():
            if weight is not None:
                holders.setdefault(id(weight), set()).add(path in called)
    free = {name: holders[id(weight)] == {True} for name, weight in model.named_parameters()}
    read = graph.readers
    weights = {
        name: replace(weight, reader=name.removesuffix(".weight"), free=free[name]) if name in read else weight
        for name, weight in graph.weights.items()
    }
    own = replace(graph, weights=weights)
    if not agrees(model, own, inputs, draw_own):
        raise SpecError(
            "/channels/readers", "of this model layers cannot read channels of their own: leave it out, or say 'shared'"
        )
    return own


def draw_own(graph: Graph, generator: torch.Generator, nearly_all: bool = False) -> ChannelStructure:
    """As `draw`, in any order, and each reader that is free leaves out a random part of what is left."""
    kept = tuple(_shuffled(units, generator) for units in draw(graph, generator, nearly_all).kept)
    columns = graph.columns
    there = torch.from_numpy(graph.has(ChannelStructure(kept))[columns.unit])
    out = torch.zeros(len(columns.unit), dtype=torch.bool)
    for free, pinned, span in zip(columns.free, columns.pinned, columns.spans.values(), strict=True):
        found = there[span].nonzero().flatten()
        most = len(found) - (not pinned)
        if free and most > 0:
            part = 1 if nearly_all else int(torch.randint(0, most + 1, (), generator=generator))
            out[span.start + found[torch.randperm(len(found), generator=generator)[:part]]] = True
    return ChannelStructure(kept, left_out=columns.said(out.numpy()))


def _shuffled(units: tuple[int, ...], generator: torch.Generator) -> tuple[int, ...]:
    return tuple(units[i] for i in torch.randperm(len(units), generator=generator).tolist())


@torch.no_grad()
def _called(model: nn.Module, inputs: Mapping[str, Tensor]) -> set[str]:
    """Paths of the layers that are called, and not only read by others for their weights."""
    found = set[str]()
    handles = [
        module.register_forward_pre_hook(lambda _module, given, path=path: found.add(path) if given else None)
        for path, module in model.named_modules()
        if is_reader(module)
    ]
    try:
        with evaluating(model):
            model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found
