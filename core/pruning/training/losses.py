"""Losses of a batch that several tasks share: labels, and distillation from the teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from core.domains.network import Network
from core.pruning.system import parallel
from core.pruning.training.checkpoint import NOWHERE, Checkpoint
from core.pruning.training.coupling import Stream, TaskRows
from core.pruning.training.predict import autocast, predict
from core.rows.modality import Batch

PASS = 256  # tokens that take about as long on a CPU as it takes to run the network once more


def batch_loss(network: Network, streams: Sequence[Stream], drawn: Sequence[Sequence[int]]) -> Tensor:
    """Loss of one mixed batch: each stream's rows meet its own head and losses."""
    rows = sum(map(len, drawn))
    total = torch.zeros((), device=next(network.parameters()).device)
    with autocast(network):
        parts = features_of(network, streams, drawn)
    for stream, index, (features, inputs) in zip(streams, drawn, parts, strict=True):
        with autocast(network):
            logits = stream.rows.task.answers(network.heads[stream.head], features, inputs)
        total = total + stream_loss(logits.float(), stream, torch.tensor(index)) * (len(index) / rows)
    return total


def features_of(
    network: Network, streams: Sequence[Stream], drawn: Sequence[Sequence[int]]
) -> list[tuple[Tensor, Batch]]:
    """What the body says of the rows that are drawn of each stream, (B, ...), and the batch that it read."""
    batches = padded(streams, drawn, next(network.parameters()).device)
    said = [parallel.features(network, batch) for batch in batches]
    if len(said) == len(drawn):
        return list(zip(said, batches, strict=True))
    counts = [len(index) * stream.rows.task.texts for stream, index in zip(streams, drawn, strict=True)]
    apart = {name: torch.split(column, counts) for name, column in batches[0].items()}
    every = ({name: parts[i] for name, parts in apart.items()} for i in range(len(counts)))
    return list(zip(torch.split(said[0], counts), every, strict=True))


def padded(streams: Sequence[Stream], drawn: Sequence[Sequence[int]], where: torch.device) -> list[Batch]:
    """The rows that are drawn of each stream, in their order: column -> (B, longest).

    All are one batch or, on a CPU, where that spares enough padding, those of each stream.
    """
    parts = [stream.rows.collate(index) for stream, index in zip(streams, drawn, strict=True)]
    whole = streams[0].rows.modality.join(parts)
    first = next(iter(whole))
    spared = whole[first].numel() - sum(part[first].numel() for part in parts)
    apart = where.type == "cpu" and spared > PASS * (len(parts) - 1)
    return [{name: column.to(where) for name, column in batch.items()} for batch in (parts if apart else [whole])]


def stream_loss(logits: Tensor, stream: Stream, index: Tensor) -> Tensor:
    """Label loss and distillation of rows of one stream, by its weights; the label loss never vanishes unasked."""
    loss = torch.zeros((), device=logits.device)
    task, labels = stream.rows.task, stream.rows.labels[index].to(logits.device)
    if stream.label_weight:
        loss = loss + stream.label_weight * task.loss(logits, labels)
    if stream.distil_weight:
        assert stream.rows.logits is not None
        teacher = stream.rows.logits[index].to(logits.device)
        loss = loss + stream.distil_weight * task.distillation(logits, teacher, labels)
    return loss


def labelled_by(
    teacher: Network,
    task: TaskRows,
    head: str,
    alive: Callable[[], None] = lambda: None,
    checkpoint: Checkpoint = NOWHERE,
) -> TaskRows:
    """The task with what the teacher's head says of each row; unchanged where the teacher has no such head.

    `alive` is called after each batch. What `checkpoint` holds is not computed again.
    """
    if head not in teacher.heads:
        return task
    logits = predict(teacher, task.rows, head, fast=True, alive=alive, checkpoint=checkpoint)
    return replace(task, rows=replace(task.rows, logits=logits))
