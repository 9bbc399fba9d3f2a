"""Losses of a batch that several tasks share: labels, and distillation from the teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from core.pruning import parallel
from core.pruning.batches import stack
from core.pruning.checkpoint import NOWHERE, Checkpoint
from core.pruning.coupling import Stream, TaskRows
from core.pruning.network import Network, autocast, predict


def batch_loss(network: Network, streams: Sequence[Stream], drawn: Sequence[Sequence[int]]) -> Tensor:
    """Loss of one mixed batch: one forward pass for all streams, then each stream's own head and losses."""
    where = next(network.parameters()).device
    inputs = {name: column.to(where) for name, column in collate(streams, drawn).items()}
    with autocast(network):
        features = parallel.features(network, inputs)
    total = torch.zeros((), device=where)
    rows = sum(map(len, drawn))
    start = 0
    for stream, index in zip(streams, drawn, strict=True):
        with autocast(network):
            logits = network.heads[stream.head](features[start : start + len(index)])
        start += len(index)
        total = total + stream_loss(logits.float(), stream, torch.tensor(index)) * (len(index) / rows)
    return total


def stream_loss(logits: Tensor, stream: Stream, index: Tensor) -> Tensor:
    """Label loss and distillation of rows of one stream, by its weights; the label loss never vanishes unasked."""
    loss = torch.zeros((), device=logits.device)
    problem, labels = stream.rows.problem, stream.rows.labels[index].to(logits.device)
    if stream.label_weight:
        loss = loss + stream.label_weight * problem.loss(logits, labels)
    if stream.distil_weight:
        assert stream.rows.logits is not None
        teacher = stream.rows.logits[index].to(logits.device)
        loss = loss + stream.distil_weight * problem.distillation(logits, teacher, labels)
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


def collate(streams: Sequence[Stream], drawn: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """One padded batch of the rows that are drawn of each stream, in their order: column -> (B, longest)."""
    columns = [stream.rows.collate(index) for stream, index in zip(streams, drawn, strict=True)]
    pad = streams[0].rows.pad_id
    return {name: stack([c[name] for c in columns], pad if name == "input_ids" else 0) for name in columns[0]}
