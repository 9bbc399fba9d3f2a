"""`regression`: a number a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.rows.labels import STRATA, Label, numbers
from core.tasks.intervals import Array, Measure
from core.tasks.task import Task, plain

ROUNDING = 1e-6  # relative, of float32 arithmetic on other batches


@dataclass(frozen=True)
class Regression(Task):
    """A number. Logits are (N, 1), labels (N,): (number - mean) / deviation, so that any unit trains alike.

    The last Linear takes mean and deviation in once all is trained (`Network.rescale`).
    """

    mean: float = 0.0
    deviation: float = 1.0
    usual_answer: ClassVar[str] = "always the training mean"

    @classmethod
    def of(cls, labels: Sequence[str], known: Sequence[Label] = ()) -> Self:
        values = numbers(known)
        return cls(tuple(labels), mean=fmean(values), deviation=pstdev(values) or 1.0) if values else cls(tuple(labels))

    def encode(self, labels: Sequence[Any], encoded: Any = None) -> Tensor:
        values = [float("nan") if label is None else (label - self.mean) / self.deviation for label in labels]
        return torch.tensor(values, dtype=torch.float32)

    def truth(self, labels: Sequence[Any], encoded: Any = None) -> Tensor:
        return torch.tensor(labels, dtype=torch.float64)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean square error."""
        return F.mse_loss(logits.squeeze(1), labels)

    def distillation(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Mean square distance: a KL divergence over one logit would be constant, and teach nothing."""
        return F.mse_loss(student, teacher)

    def worth(self, logits: Tensor, labels: Tensor, balanced: bool) -> Tensor:
        """1 minus the square error of each row, as a share of the labels' variance: its mean is R2."""
        return 1 - (logits.squeeze(1) - labels).square()

    def strata(self, labels: Tensor) -> Tensor:
        """Tenths by rank."""
        return labels.argsort(stable=True).argsort(stable=True) * STRATA // len(labels)

    def measure(self, logits: Tensor, labels: Tensor) -> Measure:
        return of_numbers(logits.squeeze(1).double().numpy(), labels.double().numpy())

    def quality(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """The error in the labels' own unit."""
        found = super().quality(logits, labels)
        return found | {"rmse": found["rmse"] * self.deviation}

    def said(self, logits: Tensor, labels: Tensor) -> list[Any]:
        return [plain(value) for value in logits.squeeze(1).tolist()]

    def outputs(self, logits: Tensor) -> Tensor:
        return logits

    def indicators(self, labels: Tensor, classes: int) -> Tensor:
        return labels[:, None]

    def unscaled(self) -> Regression:
        return Regression(self.labels)

    def usual(self, known: Sequence[Any], labels: Tensor) -> Tensor:
        """The mean, in the labels' own unit."""
        return torch.full((len(labels), 1), fmean(known), dtype=torch.float64)

    @property
    def scale(self) -> float:
        """Standard deviation of the training labels."""
        return self.deviation


def of_numbers(predicted: Array, truth: Array) -> Measure:
    """Pearson's and Spearman's correlation (0 where either is constant), R2 and root mean square error; (N,) each.

    Predictions that differ by rounding alone are constant.
    """
    if np.ptp(predicted) <= ROUNDING * max(np.abs(predicted).max(), truth.std()):
        predicted = np.full_like(predicted, predicted.mean())

    def measure(weights: Array) -> dict[str, Array]:
        total = weights.sum(1)
        error = weights @ (predicted - truth) ** 2 / total
        spread = (weights * (truth - (weights @ truth / total)[:, None]) ** 2).sum(1) / total
        return {
            "pearson": _correlation(predicted, truth, weights),
            "spearman": _correlation(_ranks(predicted, weights), _ranks(truth, weights), weights),
            "r2": 1 - np.divide(error, spread, out=np.ones_like(error), where=spread > 0),
            "rmse": np.sqrt(error),
        }

    return measure


def _correlation(x: Array, y: Array, weights: Array) -> Array:
    """Pearson's, of each resample; x and y are (N,) or (R, N)."""
    total = weights.sum(1, keepdims=True)
    x, y = (part - part[..., :1] for part in (x, y))  # of what is constant, nothing but 0 is left
    x, y = (part - (weights * part).sum(1, keepdims=True) / total for part in (x, y))
    both, of_x, of_y = ((weights * product).sum(1) for product in (x * y, x * x, y * y))
    scale = np.sqrt(of_x * of_y)
    found: Array = np.divide(both, scale, out=np.zeros_like(both), where=scale > 0)
    return found


def _ranks(x: Array, weights: Array) -> Array:
    """Ranks of x in each resample, (R, N), ties at their mean."""
    _, group, sizes = np.unique(x, return_inverse=True, return_counts=True)
    starts = np.cumsum(sizes) - sizes
    count = np.add.reduceat(weights[:, np.argsort(group, kind="stable")], starts, axis=1)  # (R, groups)
    ranks: Array = (count.cumsum(1) - (count - 1) / 2)[:, group]
    return ranks
