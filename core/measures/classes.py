"""One of several classes a row: accuracy, balanced accuracy, macro F1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.measures.intervals import Array, Measure


def class_scores(
    right: NDArray[np.int64], true: NDArray[np.int64], predicted: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Of how many rows of each class are right, there are, and were predicted: (..., C) each -> (...).

    Classes that do not occur do not count in the two means.
    """
    present = true > 0
    recall = np.divide(right, true, out=np.zeros(right.shape), where=present)
    f1 = np.divide(2 * right, true + predicted, out=np.zeros(right.shape), where=true + predicted > 0)
    classes = present.sum(-1)
    return {
        "accuracy": right.sum(-1) / true.sum(-1),
        "balanced_accuracy": recall.sum(-1) / classes,
        "f1": np.where(present, f1, 0).sum(-1) / classes,
    }


def summed(cells: NDArray[Any], owner: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Sums of the cells of each owner, (R, K) -> (R, classes)."""
    order = owner.argsort(kind="stable")
    present, starts = np.unique(owner[order], return_index=True)
    sums = np.zeros((len(cells), classes), dtype=np.int64)
    sums[:, present] = np.add.reduceat(cells[:, order], starts, axis=1)
    return sums


def of_classes(predicted: NDArray[np.int64], truth: NDArray[np.int64], classes: int) -> Measure:
    """Accuracy, balanced accuracy and macro F1; (N,) each."""
    right = predicted == truth

    def measure(weights: Array) -> dict[str, Array]:
        parts = (weights * right, truth), (weights, truth), (weights, predicted)
        return class_scores(*(summed(cells, owner, classes) for cells, owner in parts))

    return measure
