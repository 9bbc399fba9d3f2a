"""How much the loss would rise without a unit, from squared mask gradients (Kwon et al., NeurIPS 2022: diagonal Fisher)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from core.pruning.batches import draw
from core.pruning.coupling import Stream
from core.pruning.masks import Gates, gated
from core.pruning.network import Network
from core.pruning.train import batch_loss
from core.spec.cost import CostModel
from core.spec.structure import Structure


def fisher(network: Network, cost: CostModel, streams: Sequence[Stream], batches: int, seed: int) -> Gates:
    """Mean squared gradient of the loss by each gate at the dense model: heads (L, H), neurons (L, N), blocks (L,).

    Small batches, dropout off: the square of a mean over many rows would hide what single rows need.
    """
    network.eval()
    a = cost.architecture
    where = next(network.parameters()).device
    shapes = ((a.layers, a.heads), (a.layers, a.neurons), (a.layers,), (a.layers,))
    gates = Gates(*(torch.ones(shape, device=where, requires_grad=True) for shape in shapes))
    parts = (gates.heads, gates.neurons, gates.attention, gates.ffn)
    sums = [torch.zeros_like(part) for part in parts]
    small = [(stream.rows, max(1, stream.share // 4)) for stream in streams]
    for index in draw(small, batches, seed):
        with gated(network, gates, Structure.dense(a)):
            loss = batch_loss(network, streams, index)
        for total, gradient in zip(sums, torch.autograd.grad(loss, parts), strict=True):
            total += gradient.square()
    network.train()
    return Gates(*(total / batches for total in sums))
