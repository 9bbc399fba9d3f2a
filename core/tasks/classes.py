"""`single_label_classification`: one of several classes a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from core.measures.classes import class_scores, of_classes, summed
from core.measures.intervals import (
    CELLS,
    RESAMPLES,
    Array,
    Interval,
    Measure,
    f1_parts,
    f1_range,
    mean_of,
    percentiles,
    share,
    wider,
    wilson,
)
from core.tasks.task import Task, brier, distillation, one_hot, one_of, recalls

Counts = NDArray[np.int64]


class SingleLabel(Task):
    """One of several classes. Logits are (N, C), labels (N,)."""

    def encode(self, labels: Sequence[Any], encoded: Any = None) -> Tensor:
        number = {label: i for i, label in enumerate(self.labels)}
        return torch.tensor([number.get(label, -1) for label in labels])

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, ignore_index=-1)

    def distillation(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return distillation(student, teacher)

    def worth(self, logits: Tensor, labels: Tensor, balanced: bool) -> Tensor:
        value = brier(logits, labels)
        if balanced:
            counts = torch.bincount(labels, minlength=logits.shape[1])
            value = value * len(labels) / ((counts > 0).sum() * counts[labels])
        return value

    def strata(self, labels: Tensor) -> Tensor:
        return labels

    def measure(self, logits: Tensor, labels: Tensor) -> Measure:
        return of_classes(logits.argmax(1).numpy(), labels.numpy(), logits.shape[1])

    def quality(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        counts = confusion(logits.argmax(1), labels, logits.shape[1])
        return {name: float(value) for name, value in scores(counts).items()}

    def intervals(self, logits: Tensor, labels: Tensor) -> dict[str, Interval]:
        return with_intervals(logits, labels)

    def recalls(self, logits: Tensor, labels: Tensor) -> dict[str, tuple[int, float]]:
        return recalls(self.labels, one_hot(logits.argmax(1), len(self.labels)), one_hot(labels, len(self.labels)))

    def lead(self, logits: Tensor, constant: Tensor, labels: Tensor) -> dict[str, Interval]:
        return lead_over_one(logits, labels, int(constant[0].argmax()))

    def said(self, logits: Tensor, labels: Tensor) -> list[Any]:
        return [self.labels[i] for i in logits.argmax(1).tolist()]

    def outputs(self, logits: Tensor) -> Tensor:
        return logits.softmax(1)

    def indicators(self, labels: Tensor, classes: int) -> Tensor:
        return one_hot(labels, classes)

    def usual(self, known: Sequence[Any], labels: Tensor) -> Tensor:
        return one_of(self.labels, known).expand(len(labels), -1)


def confusion(predicted: Tensor, truth: Tensor, classes: int) -> NDArray[np.int64]:
    """Counts, (classes, classes): row = true class, column = predicted."""
    flat = torch.bincount(truth * classes + predicted, minlength=classes * classes)
    counts: NDArray[np.int64] = flat.reshape(classes, classes).numpy()
    return counts


def scores(counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Accuracy, balanced accuracy and macro F1 of a confusion matrix, (C, C)."""
    return class_scores(np.diagonal(counts), counts.sum(-1), counts.sum(-2))


def with_intervals(logits: Tensor, truth: Tensor) -> dict[str, Interval]:
    """Each metric as {value, low, high}.

    A bootstrap over rows is, of functions of the confusion matrix, one multinomial draw a resample, of the cells that
    are not empty.
    """
    counts = confusion(logits.argmax(1), truth, logits.shape[1])
    parts: dict[str, list[Array]] = {}
    for drawn in _redrawn(counts):
        for name, values in class_scores(*drawn).items():
            parts.setdefault(name, []).append(values)
    found = class_intervals(counts)
    means = ("balanced_accuracy", "f1")
    return wider(found, {name: percentiles(found[name]["value"], parts[name]) for name in means})


def lead_over_one(logits: Tensor, truth: Tensor, constant: int) -> dict[str, Interval]:
    """By how much each metric leads that of always giving the class `constant`, as {value, low, high}."""
    counts = confusion(logits.argmax(1), truth, logits.shape[1])
    said = np.arange(len(counts)) == constant

    def gained(right: Counts, true: Counts, predicted: Counts) -> dict[str, Array]:
        ours, other = (
            class_scores(right, true, predicted),
            class_scores(true * said, true, true.sum(-1, keepdims=True) * said),
        )
        return {name: ours[name] - other[name] for name in ours}

    parts: dict[str, list[Array]] = {}
    for drawn in _redrawn(counts):
        for name, values in gained(*drawn).items():
            parts.setdefault(name, []).append(values)
    value = gained(np.diagonal(counts), counts.sum(1), counts.sum(0))
    return {name: percentiles(float(value[name]), parts[name]) for name in value}


def _redrawn(counts: Counts) -> Iterator[tuple[Counts, Counts, Counts]]:
    """Resamples of a confusion matrix, some at a time: what `_scores` takes, (R, C) each."""
    classes, n = len(counts), int(counts.sum())
    rows, columns = counts.nonzero()
    each, rng = counts[rows, columns] / n, np.random.default_rng(0)
    at_once = max(1, CELLS // (len(each) + classes))
    for start in range(0, RESAMPLES, at_once):
        drawn = rng.multinomial(n, each, size=min(at_once, RESAMPLES - start))
        right, true, predicted = (
            summed(cells, owner, classes)
            for cells, owner in ((drawn * (rows == columns), rows), (drawn, rows), (drawn, columns))
        )
        yield right, true, predicted


def class_intervals(counts: NDArray[np.int64]) -> dict[str, Interval]:
    """Of a confusion matrix: accuracy, and the means of the recalls and F1s of the classes that have rows."""
    present = counts.sum(1) > 0
    true, said, right = (part[present].astype(float) for part in (counts.sum(1), counts.sum(0), np.diagonal(counts)))
    recall = right / true
    f1, gain, loss = f1_parts(right, said, true)
    errors = (counts + counts.T)[np.ix_(present, present)]  # a row that is wrong is so for two classes
    shared = errors * np.outer(loss, loss)
    np.fill_diagonal(shared, right * gain**2 + (true + said - 2 * right) * loss**2)
    return {
        "accuracy": share(right.sum() / true.sum(), true.sum()),
        "balanced_accuracy": mean_of(recall, *wilson(recall, true), np.eye(len(true))),
        "f1": mean_of(f1, *f1_range(right, said, true), shared),
    }
