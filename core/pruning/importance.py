"""What each unit is worth before anything is trained: squared gradients of the gates (the diagonal Fisher information).

After Kwon et al., "A Fast Post-Training Pruning Framework for Transformers" (NeurIPS 2022, arXiv 2204.09656).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from core.pruning.batches import draw
from core.pruning.coupling import Stream
from core.pruning.fit import Scores
from core.pruning.losses import batch_loss
from core.pruning.masks import Gates, gated
from core.pruning.network import Network, units
from core.spec.cost import CostModel

BATCHES = 48
ROWS = 8  # of a batch: the square of a mean over many rows would hide what single rows need


def importance(network: Network, cost: CostModel, streams: Sequence[Stream], seed: int) -> Scores:
    """Mean squared gradient of the loss by each unit's gate at 1, per parameter that the unit costs; dropout off.

    Numbered as the network is: heads (L, H), neurons (L, N).
    """
    was_training = network.training
    network.eval()
    where = next(network.parameters()).device
    present = units(network)
    ones = Gates.of(present, present)
    heads, neurons = (gate.to(where).requires_grad_() for gate in (ones.heads, ones.neurons))
    gates = Gates(heads, neurons, ones.attention.to(where), ones.ffn.to(where))
    sums = [torch.zeros_like(heads), torch.zeros_like(neurons)]
    total = sum(stream.share for stream in streams)
    small = [(stream.rows, max(1, ROWS * stream.share // total)) for stream in streams]
    for index in draw(small, BATCHES, seed):
        with gated(network, gates, present):
            loss = batch_loss(network, streams, index)
        found = torch.autograd.grad(loss, (heads, neurons), allow_unused=True, materialize_grads=True)
        for part, gradient in zip(sums, found, strict=True):
            part += gradient.square()
    network.train(was_training)
    scores = (
        (part / price).where(gate.to(where).bool(), -torch.inf).double().cpu().numpy()
        for part, price, gate in zip(sums, (cost.head, cost.neuron), (ones.heads, ones.neurons), strict=True)
    )
    return Scores(*scores)
