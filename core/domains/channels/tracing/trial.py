"""`agrees`: whether a network that is cut as a graph says answers as the masked one does."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from core.domains.channels.cut import cut
from core.domains.channels.gates import gated
from core.domains.channels.graph import Graph
from core.domains.structure import Structure
from core.machine import is_full

TOLERANCE = 1e-9  # of the largest answer, in float64
SEED = 0


class Draw(Protocol):
    """What is tried."""

    def __call__(self, graph: Graph, generator: torch.Generator, nearly_all: bool = False) -> Structure:
        """Draw a structure."""


def draw(graph: Graph, generator: torch.Generator, nearly_all: bool = False) -> Structure:
    """Keep a random part of each block's units: one at least, and not all where there are two. Or all but one."""
    kept = []
    for block in graph.anatomy.blocks:
        count = int(torch.randint(1, max(2, block.size), (), generator=generator))
        count = max(1, block.size - 1) if nearly_all else count
        kept.append(tuple(sorted(torch.randperm(block.size, generator=generator)[:count].tolist())))
    return Structure(tuple(kept))


@torch.no_grad()
def agrees(model: nn.Module, graph: Graph, inputs: Mapping[str, Tensor], draw: Draw = draw) -> bool:
    """Try two structures on copies, in float64 and with random weights: parts that start at zero would hide faults.

    One keeps a random part of each block, one all but a unit: code that has a size written down may be right by chance
    where it meets just this size. `model` is in evaluation mode.
    """
    if not graph.anatomy.size:
        return True
    generator = torch.Generator().manual_seed(SEED)
    model = copy.deepcopy(model).double().train().eval()  # LeViT keeps biases, in float32, from one run to the next
    scatter(model, generator)
    inputs = {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}
    structures = draw(graph, generator), draw(graph, generator, nearly_all=True)
    return all(_agrees(model, graph, structure, inputs) for structure in structures)


def _agrees(model: nn.Module, graph: Graph, structure: Structure, inputs: Mapping[str, Tensor]) -> bool:
    gates = torch.from_numpy(graph.has(structure)[:-1]).double().to(next(model.parameters()).device)
    columns = torch.from_numpy(~graph.columns.left_out(structure)).to(gates) if graph.columns.paths else None
    with gated(model, graph, gates, Structure.dense(graph.anatomy), columns):
        masked = answers(model(**inputs))
    smaller = copy.deepcopy(model)
    try:
        cut(smaller, graph, structure)
        small = answers(smaller(**inputs))
    except Exception as error:  # whatever the model's code makes of a size that it has written down
        if is_full(error):
            raise
        return False
    return len(small) == len(masked) and all(
        one.shape == other.shape and bool((one - other).abs().max() <= TOLERANCE * other.abs().max())
        for one, other in zip(small, masked, strict=True)
    )


def answers(output: object) -> list[Tensor]:
    """All tensors of numbers that a model gives."""
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def scatter(model: nn.Module, generator: torch.Generator) -> None:
    """Draw what norms and scales have learned: vectors in (1/2, 3/2), so that no channel is like another."""
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
