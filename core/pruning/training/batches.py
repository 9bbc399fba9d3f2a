"""Encoded rows, and how batches are drawn from one or several streams of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.rows.example import Example
from core.rows.modality import Batch, Blank, Columns, Modality
from core.rows.text.processor import stack
from core.tasks.task import IGNORED, Task

POOL = 16  # batches that are sorted by length together


@dataclass(frozen=True)
class Rows:
    """Encoded examples, unpadded: columns of the modality, and labels as the task has them."""

    inputs: Columns
    labels: Tensor
    task: Task
    modality: Modality
    logits: Tensor | None = None  # (N, C), of words (N, T, C): what the teacher says of each row, computed once
    views: int = 1  # rows of each example, which lie together, the example as it is first

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> Tensor:
        """Size of each row, tokens of a text: (N,)."""
        return self.modality.sizes(self.inputs)

    def beside(self, other: Rows) -> Rows:
        """These rows, then the other's; without logits."""
        inputs = {name: column + other.inputs[name] for name, column in self.inputs.items()}
        return replace(self, inputs=inputs, labels=stack([self.labels, other.labels], IGNORED), logits=None, views=1)

    @property
    def examples(self) -> Rows:
        """One row of each example: where some are held out, no view of them may stay."""
        return self if self.views == 1 else self.take(range(0, len(self), self.views))

    def take(self, index: Sequence[int]) -> Rows:
        """Some of the rows, in the order of `index`."""
        inputs = {name: [column[i] for i in index] for name, column in self.inputs.items()}
        logits = None if self.logits is None else self.logits[list(index)]
        return replace(self, inputs=inputs, labels=self.labels[list(index)], logits=logits, views=1)

    def collate(self, index: Sequence[int]) -> Batch:
        """Padded inputs of some rows: column -> (B, longest of them)."""
        return self.modality.collate(self.inputs, index)

    @property
    def blank(self) -> Blank:
        """Makes batches of these columns whose content does not matter."""
        return Blank(self.modality, tuple(self.inputs))


def encode(examples: Sequence[Example], task: Task, modality: Modality, *, train: bool = False) -> Rows:
    """Encode examples; raises SpecError('/model') for a model that cannot take them.

    To `train` on, a modality may make several rows of an example.
    """
    if train and (views := modality.views(len(examples))) > 1:
        columns, index = modality.encode_views([row.text for row in examples], views)
        return Rows(columns, task.encode([examples[i].label for i in index]), task, modality, views=views)
    columns, encoded = modality.encode([row.text for row in examples])
    return Rows(columns, task.encode([row.label for row in examples], encoded), task, modality)


def in_order(rows: Rows, batch_size: int) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Every row once, in batches of similar length: (row numbers, inputs)."""
    order = rows.lengths.argsort(stable=True).tolist()
    for start in range(0, len(order), batch_size):
        index = order[start : start + batch_size]
        yield index, rows.collate(index)


def draw(streams: Sequence[tuple[Rows, int]], steps: int, seed: int) -> Iterator[list[list[int]]]:
    """For each of `steps` batches, the row numbers to take from each stream, given (rows, how many a batch).

    Each stream is shuffled anew each time it is used up. Within a pool of batches, rows are grouped by length, in
    all streams alike, so that little is padded; the batches of a pool then come in random order.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = [rows.lengths for rows, _ in streams]
    left: list[list[int]] = [[] for _ in streams]
    for start in range(0, steps, POOL):
        size = min(POOL, steps - start)
        pools = []
        for i, (rows, share) in enumerate(streams):
            while len(left[i]) < size * share:
                left[i] += torch.randperm(len(rows), generator=generator).tolist()
            taken, left[i] = left[i][: size * share], left[i][size * share :]
            taken.sort(key=lambda row, i=i: int(lengths[i][row]))  # type: ignore[misc]
            pools.append([taken[j * share : (j + 1) * share] for j in range(size)])
        for j in torch.randperm(size, generator=generator).tolist():
            yield [pool[j] for pool in pools]
