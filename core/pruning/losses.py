"""Losses of a batch that several tasks share: labels, and distillation from the teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from core.pruning.batches import Rows
from core.pruning.checkpoint import NOWHERE, Checkpoint
from core.pruning.coupling import Stream, TaskRows
from core.pruning.network import Network, autocast, predict

TEMPERATURE = 2.0  # of distillation (Hinton et al. 2015; CoFi uses the same)


def batch_loss(network: Network, streams: Sequence[Stream], drawn: Sequence[Sequence[int]]) -> Tensor:
    """Loss of one mixed batch: one forward pass for all streams, then each stream's own head and losses."""
    where = next(network.parameters()).device
    inputs = {name: column.to(where) for name, column in collate(streams, drawn).items()}
    with autocast():
        features = network(**inputs)
    total = torch.zeros((), device=where)
    rows = sum(map(len, drawn))
    start = 0
    for stream, index in zip(streams, drawn, strict=True):
        with autocast():
            logits = network.heads[stream.head](features[start : start + len(index)])
        start += len(index)
        total = total + stream_loss(logits.float(), stream, torch.tensor(index)) * (len(index) / rows)
    return total


def stream_loss(logits: Tensor, stream: Stream, index: Tensor) -> Tensor:
    """Label loss and distillation of rows of one stream, by its weights; the label loss never vanishes unasked."""
    loss = torch.zeros((), device=logits.device)
    if stream.label_weight:
        labels = stream.rows.labels[index].to(logits.device)
        loss = loss + stream.label_weight * F.cross_entropy(logits, labels, ignore_index=-1)
    if stream.distil_weight:
        assert stream.rows.logits is not None
        teacher = stream.rows.logits[index].to(logits.device)
        loss = loss + stream.distil_weight * distillation(logits, teacher)
    return loss


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """T^2 KL(teacher || student) at temperature T, mean over rows; logits (B, C)."""
    return TEMPERATURE**2 * F.kl_div(
        F.log_softmax(student / TEMPERATURE, -1),
        F.log_softmax(teacher / TEMPERATURE, -1),
        reduction="batchmean",
        log_target=True,
    )


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
    return {name: _concat([c[name] for c in columns], streams[0].rows, name) for name in columns[0]}


def _concat(parts: Sequence[Tensor], rows: Rows, name: str) -> Tensor:
    width = max(part.shape[1] for part in parts)
    pad = rows.pad_id if name == "input_ids" else 0
    return torch.cat([F.pad(part, (0, width - part.shape[1]), value=pad) for part in parts])
