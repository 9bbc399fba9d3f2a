"""Quality with its 95 % interval, computed from the confusion matrix."""

from __future__ import annotations

from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Z95 = 1.959964
RESAMPLES = 2000

Interval = dict[str, float]


def confusion(predicted: Tensor, truth: Tensor, classes: int) -> NDArray[np.int64]:
    """Counts, (classes, classes): row = true class, column = predicted."""
    flat = torch.bincount(truth * classes + predicted, minlength=classes * classes)
    counts: NDArray[np.int64] = flat.reshape(classes, classes).numpy()
    return counts


def scores(counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Accuracy, balanced accuracy and macro F1 of confusion matrices, (..., C, C) -> (...).

    Classes that do not occur do not count in the two means.
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    true, predicted = counts.sum(-1), counts.sum(-2)
    present = true > 0
    recall = np.divide(right, true, out=np.zeros(right.shape), where=present)
    f1 = np.divide(2 * right, true + predicted, out=np.zeros(right.shape), where=true + predicted > 0)
    classes = present.sum(-1)
    return {
        "accuracy": right.sum(-1) / counts.sum((-2, -1)),
        "balanced_accuracy": recall.sum(-1) / classes,
        "f1": np.where(present, f1, 0).sum(-1) / classes,
    }


def with_intervals(logits: Tensor, truth: Tensor) -> dict[str, Interval]:
    """Each metric as {value, low, high}.

    Accuracy has Wilson's interval; the others a bootstrap over rows (percentiles of 2,000 resamples), which for
    functions of the confusion matrix is one multinomial draw a resample.
    """
    classes = logits.shape[1]
    counts = confusion(logits.argmax(1), truth, classes)
    n = int(counts.sum())
    drawn = np.random.default_rng(0).multinomial(n, counts.reshape(-1) / n, size=RESAMPLES)
    resampled = scores(drawn.reshape(-1, classes, classes))
    result = {}
    for name, value in scores(counts).items():
        low, high = np.percentile(resampled[name], [2.5, 97.5])
        result[name] = {"value": float(value), "low": float(low), "high": float(high)}
    result["accuracy"] |= dict(zip(("low", "high"), wilson(result["accuracy"]["value"], n), strict=True))
    return result


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson, JASA 1927)."""
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)
