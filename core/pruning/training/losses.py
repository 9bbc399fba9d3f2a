"""Losses of a batch that several tasks share: labels, and distillation from the teacher.

In recovery the student's vectors are drawn towards the teacher's by their cosine (Sanh et al., 2019, arXiv 1910.01108):
a few logits say little of a row, the vector that they are made of says all that is known of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from core.domains.network import Network, last_linear, last_read
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
        head, known = network.heads[stream.head], stream.rows.vectors if stream.vectors else None
        with autocast(network), last_read(head) if known is not None else nullcontext() as read:
            logits = stream.rows.task.answers(head, features, inputs)
        loss = stream_loss(logits.float(), stream, torch.tensor(index))
        if known is not None and read:
            loss = loss + stream.distil_weight * turned(read[0].float(), known[index])
        total = total + loss * (len(index) / rows)
    return total


def turned(student: Tensor, teacher: Tensor) -> Tensor:
    """How far vectors (B, F) have turned from the teacher's: 1 less the mean cosine; 0 where they have other sizes."""
    if student.shape != teacher.shape:
        return torch.zeros((), device=student.device)
    return 1 - F.cosine_similarity(student, teacher.to(student.device), dim=1).mean()


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
    """The task with what the teacher's head reads and says of each row; unchanged where the teacher has no such head.

    `alive` is called after each batch. What `checkpoint` holds is not computed again.
    """
    if head not in teacher.heads:
        return task
    if not task.rows.task.of_vectors:
        logits = predict(teacher, task.rows, head, fast=True, alive=alive, checkpoint=checkpoint)
        return replace(task, rows=replace(task.rows, logits=logits))
    with teacher.reading(head) as reading:
        vectors = predict(teacher, task.rows, reading, fast=True, alive=alive, checkpoint=checkpoint)
    _, last = last_linear(teacher.heads[head])
    with torch.inference_mode():
        logits = last(vectors.to(last.weight.device)).cpu()
    return replace(task, rows=replace(task.rows, logits=logits, vectors=vectors))
