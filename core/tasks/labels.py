"""`multi_label_classification`: any number of the labels a row, each for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from core.measures.intervals import Interval, Measure, f1_parts, f1_range, mean_of, share, wider
from core.measures.labels import of_labels
from core.tasks.task import TEMPERATURE, Task, rarest, recalls


class MultiLabel(Task):
    """Any number of the labels, each for itself. Logits and labels (0 or 1) are (N, K)."""

    usual_answer: ClassVar[str] = "always each label's commoner answer"

    def encode(self, labels: Sequence[Any], encoded: Any = None) -> Tensor:
        return torch.tensor(
            [[-1.0 if row is None else float(name in row) for name in self.labels] for row in labels]
        ).reshape(len(labels), len(self.labels))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross entropy, mean over labels."""
        return F.binary_cross_entropy_with_logits(logits, labels)

    def distillation(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """T^2 KL between Bernoulli distributions at temperature T, mean over rows and labels."""
        wanted = (teacher / TEMPERATURE).sigmoid()
        entropy = F.binary_cross_entropy_with_logits(teacher / TEMPERATURE, wanted)
        return TEMPERATURE**2 * (F.binary_cross_entropy_with_logits(student / TEMPERATURE, wanted) - entropy)

    def worth(self, logits: Tensor, labels: Tensor, balanced: bool) -> Tensor:
        """1 minus the Brier score, mean over labels (as of two classes each)."""
        return 1 - (logits.sigmoid() - labels).square().mean(1)

    def strata(self, labels: Tensor) -> Tensor:
        return rarest(labels > 0)

    def measure(self, logits: Tensor, labels: Tensor) -> Measure:
        return of_labels((logits > 0).numpy(), (labels > 0).numpy())

    def recalls(self, logits: Tensor, labels: Tensor) -> dict[str, tuple[int, float]]:
        return recalls(self.labels, logits > 0, labels > 0)

    def intervals(self, logits: Tensor, labels: Tensor) -> dict[str, Interval]:
        each = label_intervals((logits > 0).numpy(), (labels > 0).numpy())
        return wider(super().intervals(logits, labels), each)

    def said(self, logits: Tensor, labels: Tensor) -> list[Any]:
        return [[self.labels[i] for i in row.nonzero().flatten().tolist()] for row in logits > 0]

    def outputs(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def indicators(self, labels: Tensor, classes: int) -> Tensor:
        return labels

    def usual(self, known: Sequence[Any], labels: Tensor) -> Tensor:
        """Each label's commoner answer."""
        return (self.encode(known).mean(0) - 0.5).expand(len(labels), -1)


def label_intervals(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, Interval]:
    """As of classes, of several labels, (N, K) each: macro F1, and the share of rows with every label right."""
    present = truth.any(0)
    both, either = (part[:, present].astype(float) for part in (predicted & truth, predicted | truth))
    right, said, true = both.sum(0), predicted[:, present].sum(0), truth[:, present].sum(0)
    f1, gain, loss = f1_parts(right, said, true)
    moved = both * gain - (either - both) * loss  # what each row does to each label's F1
    found = {"subset_accuracy": share((predicted == truth).all(1).mean(), len(truth))}
    return found | ({"macro_f1": mean_of(f1, *f1_range(right, said, true), moved.T @ moved)} if len(f1) else {})
