"""Vectors of texts: what tasks have in common whose answers are compared by their cosine.

Answers are (N, k, D): of each of N rows its k texts, encoded apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from core.measures.intervals import Array, Counted, Measure
from core.tasks.task import Task, plain

COSINE = 0.05  # temperature of cosines (as SimCSE: Gao, Yao, Chen, EMNLP 2021)
PART = 1024  # rows that are compared with each other at once


@dataclass(frozen=True)
class Vectors(Task):
    """Every text has a vector; texts alike in meaning have vectors alike in direction.

    `shorter`: so many first dimensions are to serve alone, too (Matryoshka: Kusupati et al., NeurIPS 2022).
    """

    shorter: tuple[int, ...] = ()
    apart_texts: ClassVar[bool] = True
    auto_class: ClassVar[str] = "AutoModel"
    usual_answer: ClassVar[str] = "a random order"

    def shaped(self, answers: Tensor) -> Tensor:
        return answers.reshape(-1, self.texts, answers.shape[-1])

    def distillation(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Keep the teacher's vectors, and so its similarities."""
        return kept(student.flatten(0, 1), teacher.flatten(0, 1))

    def said(self, logits: Tensor, labels: Tensor) -> list[Any]:
        """Cosine of the first two texts of each row."""
        first, second, *_ = unit(logits).unbind(1)
        return [plain(value) for value in (first * second).sum(1).tolist()]

    def usual(self, known: Sequence[Any], labels: Tensor) -> Tensor:
        """Vectors that say nothing."""
        return torch.randn(len(labels), self.texts, 64, generator=torch.Generator().manual_seed(0))

    def asked(self, logits: Tensor, labels: Tensor) -> Tensor:
        return logits.flatten(0, 1)


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1."""
    return F.normalize(vectors.float(), dim=-1)


def kept(student: Tensor, teacher: Tensor) -> Tensor:
    """How far vectors (M, D) are from the teacher's, a scalar: the squared distance in parts of its squared length."""
    return ((student - teacher).square().sum(1) / teacher.square().sum(1).clamp(min=1e-12)).mean()


def prefixes(vectors: Tensor, shorter: Sequence[int]) -> list[Tensor]:
    """Whole vectors (..., D), and their first dimensions."""
    return [vectors, *(vectors[..., :size] for size in shorter)]


def by_parts(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> Tensor:
    """A loss that compares rows with each other, of parts of them: the mean, each as much as it has rows."""
    parts = [(logits[i : i + PART], labels[i : i + PART]) for i in range(0, len(logits), PART)]
    return torch.stack([loss(ours, theirs) * len(ours) for ours, theirs in parts]).sum() / len(logits)


def mean_of_rows(values: Mapping[str, Array], counts: Array) -> Measure:
    """Metrics that are a mean over rows, of those that `counts` says (N,)."""

    def measure(weights: Array) -> dict[str, Array]:
        weights = weights * counts
        total = weights.sum(1).clip(min=1e-12)
        return {name: weights @ value / total for name, value in values.items()}

    return Counted(measure, dict.fromkeys(values, float(counts.sum())))
