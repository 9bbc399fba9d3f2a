"""How the tasks are tied while a stage runs: the three questions (how, what, when) as plain data.

A stage is a list of phases; a phase trains on one or several streams of rows at once. That is all that the training
loops know of transfer.

- `none`: the target alone.
- `sequential`: first the sources with their own labels, then the target, half of the steps each.
- `teacher`: source text labelled by the target's teacher, mixed with target rows (distillation only, no source
  labels). In the `teach` stage, where there is no teacher yet, it means `sequential` for sources with labels.

Every coupling takes the same number of optimiser steps of the same batch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.pruning.batches import Rows
from core.pruning.network import TARGET

SOURCE_SHARE = 0.5  # rows of a mixed batch that come from the sources


@dataclass(frozen=True)
class TaskRows:
    """Training rows of one task, the head they train, and how many classes it has."""

    rows: Rows
    head: str
    classes: int


@dataclass(frozen=True)
class Stream:
    """Rows that each batch draws from: how many, for which head, and which losses they carry."""

    rows: Rows
    share: int
    head: str
    label_weight: float
    distil_weight: float


@dataclass(frozen=True)
class Phase:
    """A stretch of a stage, `part` of its steps."""

    streams: tuple[Stream, ...]
    part: float = 1.0


def phases(
    coupling: str, stage: str, active: bool, target: TaskRows, sources: Sequence[TaskRows], batch_size: int
) -> list[Phase]:
    """What to train on in `stage` ('teach', 'prune' or 'recover'); `active`: transfer may enter this stage."""
    alone = Phase((_stream(target, batch_size),))
    if coupling == "none" or not active or not sources:
        return [alone]
    if coupling == "sequential" or stage == "teach":
        labelled = [source for source in sources if (source.rows.labels >= 0).any()]
        if not labelled:
            return [alone]
        first = Phase(tuple(_stream(s, n) for s, n in zip(labelled, _shares(batch_size, labelled), strict=True)), 0.5)
        return [first, replace(alone, part=0.5)]
    text = [replace(source, head=TARGET, classes=target.classes) for source in sources]
    borrowed = max(len(text), round(SOURCE_SHARE * batch_size))
    mixed = [_stream(s, n, labels=False) for s, n in zip(text, _shares(borrowed, text), strict=True)]
    return [Phase((_stream(target, max(1, batch_size - borrowed)), *mixed))]


def _stream(task: TaskRows, share: int, *, labels: bool = True) -> Stream:
    distilled = task.rows.logits is not None
    return Stream(task.rows, share, task.head, float(labels), float(distilled))


def _shares(total: int, tasks: Sequence[TaskRows]) -> list[int]:
    """Split a batch over tasks in proportion to their rows, one at least each."""
    rows = sum(len(task.rows) for task in tasks)
    shares = [max(1, total * len(task.rows) // rows) for task in tasks]
    shares[0] += max(0, total - sum(shares))
    return shares
