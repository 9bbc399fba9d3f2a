"""`regression`: a number a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from core.measures.intervals import Measure
from core.measures.numbers import of_numbers
from core.rows.labels import STRATA, Label, numbers
from core.tasks.task import Task, plain


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
