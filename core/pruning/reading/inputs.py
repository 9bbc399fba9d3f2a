"""What a job starts from, beside the dense network: its tables as encoded rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from core.domains.head import Head
from core.domains.network import TARGET, Network
from core.pruning.scoring.importance import BATCHES
from core.pruning.training.batches import Rows, encode
from core.pruning.training.coupling import TaskRows
from core.rows.example import Example, labels_of
from core.rows.labels import OUTPUTS, label_names
from core.rows.modality import Modality
from core.rows.splitting.splits import Splits
from core.schedule import training_steps
from core.spec.budget import of_size
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from core.spec.task import UNLABELLED, Source
from core.tasks import Task, task_of


@dataclass(frozen=True)
class Inputs:
    """Rows, and the modality that encoded them."""

    splits: Splits
    head: Head
    task: Task
    modality: Modality
    train: Rows
    dev: Rows
    test: Rows
    sources: list[TaskRows]
    given: AsGiven | None = None  # where its head is its own
    vocabulary: Trimmed | None = None
    pairs: bool = False  # whether the model is taught by pairs of the target's rows first

    @property
    def target(self) -> TaskRows:
        """The train rows as one of the tasks."""
        return TaskRows(self.train, TARGET, len(self.splits.labels))


@dataclass(frozen=True)
class AsGiven:
    """What the model as it was given answers on the test rows, and their tags, if words have any, by its tokens."""

    logits: Tensor
    tags: Tensor | None = None


@dataclass(frozen=True)
class Trimmed:
    """What is left of the vocabulary."""

    before: int  # tokens
    kept: int
    spared: int  # parameters of the embeddings that are gone
    missing: float  # of the test texts' tokens, the part that is not kept


Encoded = tuple[Rows, Rows, Rows, list[TaskRows]]
Hear = Callable[[Network, Rows, str], Tensor]


def require_each(spec: JobSpec, require: Callable[[JobSpec], None]) -> None:
    """Raise SpecError where some size asks what the model cannot be; of several, the pointer names it."""
    for i, size in enumerate(spec.sizes):
        try:
            require(size)
        except SpecError as error:
            raise SpecError(of_size(error.field, i) if spec.budgets else error.field, error.message) from error


def encoded(spec: JobSpec, splits: Splits, task: Task, modality: Modality) -> Encoded:
    """Train, dev and test rows, and the sources', the target's own text the last of them.

    A source with the target's label set shares the target's head.
    """
    parts = (splits.train, splits.dev, splits.test)
    train, dev, test = (encode(part, task, modality, train=not i) for i, part in enumerate(parts))
    sources: list[TaskRows] = []
    # More rows than this are never drawn, by training or for scores, however little is to be left.
    most = max(BATCHES, sum(training_steps(spec, len(splits.train), 0.0).values())) * spec.train.batch_size
    generator = torch.Generator().manual_seed(spec.train.seed)
    for (pointer, source), every in zip(spec.borrowed.items(), splits.borrowed, strict=True):
        if spec.coupling == "none":
            break
        rows = [every[j] for j in torch.randperm(len(every), generator=generator)[:most].tolist()]
        theirs = source_task(spec, source, every, task)
        head = TARGET if theirs == task or theirs.apart_texts else f"source{len(sources)}"
        classes = 0 if pointer == UNLABELLED else len(theirs.labels)  # pairs of texts are no labels there
        sources.append(TaskRows(encode(rows, theirs, modality, train=True), head, classes, source.weight))
    return train, dev, test, sources


def source_task(spec: JobSpec, source: Source, rows: list[Example], target: Task) -> Task:
    """As the target's, with labels of its own. Numbers of another column have another mean and deviation."""
    kind, known = spec.task.problem_of(source), labels_of(rows)
    names = label_names(known, kind, *source.label_columns[:1]) if source.label or kind in OUTPUTS else []
    labels = target.labels if {*names} == {*target.labels} else names
    return task_of(kind, labels, known, len(source.text), spec.task.dimensions)
