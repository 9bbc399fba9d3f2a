"""CoFi's losses (Xia, Zhong, Chen, ACL 2022), as a control: layer-wise distillation beside the teacher's logits.

As published: no label loss, 0.1 times the logits' loss at T = 2, 0.9 times the mean square distance of chosen teacher
layers from the student layers nearest to them, through a learned map that starts as the identity. Layers are matched
anew in each batch, in order. Masks, budget, rates and steps are those of every arm (the map learns as fast as a head);
masks on hidden dimensions, which CoFi has too, are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.domains.network import TARGET
from core.domains.transformer.network import TransformerNetwork
from core.pruning.job.decide import Decided
from core.pruning.job.prepare import Prepared
from core.pruning.job.stages import Pruned, Shrunk, Taught, prune
from core.pruning.masking import pdp
from core.pruning.training import train
from core.pruning.training.coupling import Stream
from core.pruning.training.losses import batch_loss, padded
from core.pruning.training.predict import autocast
from core.tasks.task import distillation

LOGITS, LAYERS = 0.1, 0.9
MAP = "layers"  # beside the heads, where the optimiser finds it


@contextmanager
def cofi_losses() -> Iterator[None]:
    """The job's pruning and recovery use CoFi's losses in place of its own."""
    teachers: list[TransformerNetwork] = []

    def with_map(prepared: Prepared, decided: Decided, taught: Taught, larger: Shrunk | None = None) -> Pruned:
        teacher = taught.teacher
        assert isinstance(teacher, TransformerNetwork)
        hidden = teacher.architecture.hidden
        identity = nn.Linear(hidden, hidden, bias=False)
        nn.init.eye_(identity.weight)
        teacher.heads[MAP] = identity
        teachers.append(teacher)
        return prune(prepared, decided, taught, larger)

    def loss(network: TransformerNetwork, streams: Sequence[Stream], drawn: Sequence[Sequence[int]]) -> Tensor:
        if not teachers:  # still teaching
            return batch_loss(network, streams, drawn)
        return distil(network, teachers[0], streams, drawn)

    with (
        patch("core.pruning.job.run.prune", with_map),
        patch.object(pdp, "batch_loss", loss),
        patch.object(train, "batch_loss", loss),
    ):
        yield


def distil(
    network: TransformerNetwork, teacher: TransformerNetwork, streams: Sequence[Stream], drawn: Sequence[Sequence[int]]
) -> Tensor:
    """Loss of one batch."""
    where = next(network.parameters()).device
    (inputs,) = padded(streams, drawn, where)  # there is one stream
    with torch.no_grad(), autocast(teacher), hidden_states(teacher) as wanted:
        said = teacher.heads[TARGET](teacher(**inputs))
    with autocast(network), hidden_states(network) as found:
        logits = network.heads[TARGET](network(**inputs))
        found = [network.heads[MAP](state) for state in found]
    real = inputs["attention_mask"].bool()
    layers = torch.zeros((), device=where)
    first = 0
    for i in range(1, len(wanted), 2):  # every second layer of six, as every third of twelve
        distances = [F.mse_loss(state[real].float(), wanted[i][real].float()) for state in found[first:]]
        nearest = int(torch.stack(distances).detach().argmin())
        layers = layers + distances[nearest]
        first += nearest
    return LOGITS * distillation(logits.float(), said.float()) + LAYERS * layers


@contextmanager
def hidden_states(network: TransformerNetwork) -> Iterator[list[Tensor]]:
    """What each layer gives, (B, T, hidden), filled in by a forward pass."""
    states: list[Tensor] = []
    family = network.architecture.family
    layers: Any = network.body.get_submodule(family.base).get_submodule(family.layers)

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()
