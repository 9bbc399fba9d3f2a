"""How the tasks are tied while a stage runs: the three questions (how, what, when) as plain data.

A stage is a list of phases; a phase trains on one or several streams of rows at once. That is all that the training
loops know of transfer.

- `none`: the target alone.
- `sequential`: first the sources with their own labels, then the target, half of the steps each.
- `joint`: target and sources in one batch, each with its own labels, under the same masks.
- `tied`: as `joint`, but while pruning each source has masks of its own, pulled towards the target's by a penalty.
- `teacher`: source text labelled by the target's teacher (distillation only, no source labels), mixed with target
  rows, in recovery by the square roots of their numbers. In the `teach` stage, where there is no teacher yet, it
  means `sequential` for sources with labels.

What is shared: `weights`, `masks`, or both. Without `masks`, source rows train weights under the masks but do not move
them. Without `weights`, the masks are learned with the sources and the weights then start again from a
teacher that never saw them (stages.py).

Every coupling takes the same number of optimiser steps of the same batch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Literal

from core.domains.network import TARGET, Network
from core.pruning.training.batches import Rows

SOURCE_SHARE = 0.5  # rows of a mixed batch that come from sources

MaskUse = Literal["shared", "own", "fixed"]  # the target's masks; masks of one's own; the target's, not moved


@dataclass(frozen=True)
class TaskRows:
    """Training rows of one task, the head they train, how many outputs it has, and the weight of its loss.

    Text without labels has no outputs of its own.
    """

    rows: Rows
    head: str
    classes: int
    weight: float = 1.0
    drawn_from: int = 0  # rows that there are, where these are a part of them

    @property
    def size(self) -> int:
        """How many rows the task has."""
        return self.drawn_from or len(self.rows)


@dataclass(frozen=True)
class Stream:
    """Rows that each batch draws from: how many, for which head, which losses they carry, which masks they meet."""

    rows: Rows
    share: int
    head: str
    label_weight: float
    distil_weight: float
    masks: MaskUse = "shared"


@dataclass(frozen=True)
class Phase:
    """A stretch of a stage, `part` of its steps. The target's stream, where there is one, comes first.

    `pairs`: by pairs of its rows, without a head (contrast.py). `fitted`: its head starts from a regression.
    """

    streams: tuple[Stream, ...]
    part: float = 1.0
    pairs: bool = False
    fitted: bool = False


def phases(
    coupling: str,
    stage: str,
    active: bool,
    target: TaskRows,
    sources: Sequence[TaskRows],
    batch_size: int,
    share: Sequence[str] = ("weights", "masks"),
) -> list[Phase]:
    """What to train on in `stage` ('teach', 'prune' or 'recover'); `active`: transfer may enter this stage."""
    alone = Phase((_stream(target, batch_size),))
    if coupling == "none" or not active or not sources:
        return [alone]
    masks: MaskUse = "shared" if "masks" in share else "fixed"
    if coupling == "sequential" or (coupling == "teacher" and stage == "teach"):
        labelled = [source for source in sources if source.classes]
        if not labelled:
            return [alone]
        shares = _shares(batch_size, labelled)
        first = Phase(tuple(_stream(s, n, masks=masks) for s, n in zip(labelled, shares, strict=True)), 0.5)
        return [first, replace(alone, part=0.5)]
    if coupling == "tied" and stage == "prune":
        masks = "own"
    if coupling == "teacher":
        sources = [replace(source, head=TARGET, classes=target.classes) for source in sources]
    part = _text_share(target, sources) if (coupling, stage) == ("teacher", "recover") else SOURCE_SHARE
    borrowed = max(len(sources), min(batch_size - 1, round(part * batch_size)))
    mixed = [
        _stream(source, n, labels=coupling != "teacher", masks=masks)
        for source, n in zip(sources, _shares(borrowed, sources), strict=True)
    ]
    return [Phase((_stream(target, max(1, batch_size - borrowed)), *mixed))]


def first_rows(coupling: str, sources: Sequence[TaskRows], steps: int, batch_size: int) -> list[TaskRows]:
    """Of each source, whose rows are in random order, as many as so many batches can draw: no others need logits."""
    every = sum(source.size for source in sources if source.classes or coupling != "sequential") or 1
    parts = []
    for source in sources:
        count = min(len(source.rows), steps * max(1, -(-batch_size * source.size // every)))
        parts.append(replace(source, rows=source.rows.take(range(count)), drawn_from=source.size))
    return parts


def add_heads(network: Network, plan: Sequence[Phase], sources: Sequence[TaskRows]) -> None:
    """Fresh heads for the sources that `plan` trains with labels of their own, where the network has none yet."""
    used = {stream.head for phase in plan for stream in phase.streams}
    for source in sources:
        if source.head in used and source.head not in network.heads:
            network.add_head(source.head, source.classes)


def teacher_head(coupling: str, source: TaskRows) -> str:
    """The head of the teacher whose answers to a source's text are distilled.

    Under `sequential` one of the source's own has been left behind by what it reads. That is no fault: its answers,
    poor as they are, still say what the teacher makes of the text (docs/log.md).
    """
    return TARGET if coupling == "teacher" else source.head


def _stream(task: TaskRows, share: int, *, labels: bool = True, masks: MaskUse = "shared") -> Stream:
    distilled = task.rows.logits is not None
    return Stream(task.rows, share, task.head, labels * task.weight, distilled * task.weight, masks)


def _text_share(target: TaskRows, sources: Sequence[TaskRows]) -> float:
    """Rows of a batch that are source text: in proportion to the square roots of how many rows there are.

    All rows say what the teacher says: a few target rows seen yet again teach less than new text.
    """
    own, text = sqrt(target.size), sqrt(sum(source.size for source in sources))
    return text / (own + text)


def _shares(total: int, tasks: Sequence[TaskRows]) -> list[int]:
    """Split a batch over tasks in proportion to their rows (largest remainders), one at least each.

    Of more tasks than rows it grows.
    """
    rows = sum(task.size for task in tasks)
    wanted = [divmod(total * task.size, rows) for task in tasks]
    shares = [max(1, whole) for whole, _ in wanted]
    largest = sorted((i for i, (whole, _) in enumerate(wanted) if whole), key=lambda i: -wanted[i][1])
    for i in largest[: max(0, total - sum(shares))]:
        shares[i] += 1
    while sum(shares) > max(total, len(tasks)):
        shares[shares.index(max(shares))] -= 1
    return shares
