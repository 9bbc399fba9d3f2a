"""`fisher`: what each unit is worth to the answers of the trained network, before anything is pruned.

After Kwon et al., "A Fast Post-Training Pruning Framework for Transformers" (NeurIPS 2022, arXiv 2204.09656), who rank
units by squared gradients of the loss by their gates: the diagonal of the Fisher information. A model that is sure of
its training rows has hardly any such gradient, and the distillation loss has none at the teacher itself. Ours: the
gradients of the logits, E |d logits / d gate|^2 (Gauss-Newton), which need no labels, so that text of any source can be
used. Random signs keep the rows of a batch and their logits apart (Hutchinson 1990).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from math import sqrt

import torch
from torch import Tensor, nn

from core.domains.fit import Scores
from core.domains.gates import Gates
from core.domains.network import TARGET, Network
from core.domains.structure import ATTENTION
from core.pruning.scoring.fitter import Fitter
from core.pruning.system import parallel
from core.pruning.training.batches import draw
from core.pruning.training.checkpoint import NOWHERE, Checkpoint
from core.pruning.training.coupling import Phase, Stream
from core.pruning.training.losses import features_of
from core.pruning.training.predict import autocast
from core.rows.modality import Batch

BATCHES = 40
# Heads stand in for each other: one alone is hardly missed, all together are. Looked at: docs/log.md.
HEADS = 4.0


def importance(
    network: Network,
    fitter: Fitter,
    plan: Sequence[Phase],
    seed: int,
    batches: int = BATCHES,
    report: Callable[[int], None] = lambda _done: None,
    checkpoint: Checkpoint = NOWHERE,
) -> Scores:
    """Squared gradients of the logits by each unit's gate at 1, summed, per unit of cost that it takes; dropout off.

    Rows are drawn from every stream of `plan` that may move masks. A row counts by its stream's weight, whatever the
    number of its logits. Scores are in the numbering of the network as it is. `report` hears how many batches are done;
    those that `checkpoint` holds are not scored again. Where the fitter wants them, the dimensions of the residual
    stream are scored, too: the gate of one is shared by all layers. Where readers may read their own channels, so is
    what each reads of each unit: the gate of a unit is what its columns share.
    """
    streams = [stream for phase in plan for stream in phase.streams if stream.masks != "fixed"]
    was_training = network.training
    network.eval()
    where = next(network.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    present = network.units()
    gates = Gates.of(present, network.here).each(lambda ones: ones.to(where))
    if fitter.hidden:
        gates = replace(gates, hidden=torch.ones(network.stream, device=where))
    if network.columns:
        gates = replace(gates, columns=torch.ones(network.columns, device=where))
    each = {"units": gates.units, "hidden": gates.hidden, "columns": gates.columns}
    scored = {name: gate.requires_grad_() for name, gate in each.items() if gate is not None}
    sums = [torch.zeros_like(gate) for gate in scored.values()]
    first = 0
    if (saved := checkpoint.load()) is not None:
        first, sums = saved["batches"], [part.to(where) for part in saved["sums"]]
        generator.set_state(saved["generator"])
    drawn = draw([(stream.rows, stream.share) for stream in streams], batches, seed)
    for done, index in enumerate(islice(drawn, first, None), first + 1):
        with network.gated(gates, present), autocast(network):
            logits = [
                asked(stream, network.heads[_taught(stream)], features, inputs, rows)
                for stream, (features, inputs), rows in zip(
                    streams, features_of(network, streams, index), index, strict=True
                )
            ]
        total = torch.zeros((), device=where)
        for stream, part in zip(streams, logits, strict=True):
            signs = torch.randint(0, 2, part.shape, generator=generator).to(where) * 2 - 1
            weight = max(stream.label_weight, stream.distil_weight) / part.shape[1]
            total = total + sqrt(weight) * (part.float() * signs).sum()
        found = torch.autograd.grad(total, [*scored.values()], allow_unused=True, materialize_grads=True)
        parallel.average(found)
        for part, gradient in zip(sums, found, strict=True):
            part += gradient.square()
        report(done)
        if checkpoint.due():
            checkpoint.save({"batches": done, "sums": sums, "generator": generator.get_state()})
    network.train(was_training)
    blocks = zip(gates.anatomy.blocks, gates.anatomy.spans, fitter.cost.shared, strict=True)
    worth = [sums[0][span] * (HEADS if block.kind == ATTENTION else 1.0) / price for block, span, price in blocks]
    every = zip(scored, [torch.cat(worth), *sums[1:]], strict=True)
    return Scores(**{name: part.double().cpu().numpy() for name, part in every})


def asked(stream: Stream, head: nn.Module, features: Tensor, inputs: Batch, rows: Sequence[int]) -> Tensor:
    """What the head says of these rows of the stream, as far as anything is asked: (M, C)."""
    task = stream.rows.task
    return task.asked(task.answers(head, features, inputs), stream.rows.labels[rows].to(features.device))


def _taught(stream: Stream) -> str:
    """The head that rows are asked through. One that the teacher has not would be random: then the target's."""
    return stream.head if stream.rows.logits is not None else TARGET
