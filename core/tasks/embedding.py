"""`text_embedding`: texts without labels. What the model as given says of them is what is to be kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from core.measures.intervals import Measure
from core.tasks.task import plain
from core.tasks.vectors import PART, Vectors, kept, mean_of_rows, unit

NEAREST = 10


class Embedding(Vectors):
    """A vector of each text, (N, 1, D); labels are the vectors of the model as given, which measure agreement alone."""

    self_taught: ClassVar[bool] = True
    usual_answer: ClassVar[str] = "random vectors"

    def encode(self, labels: Sequence[Any], encoded: Any = None) -> Tensor:
        """Vectors, or nothing yet where the model is still to be heard."""
        heard = [label for label in labels if label is not None]
        return torch.tensor(heard) if heard else torch.zeros(len(labels), self.texts, 0)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return kept(logits.flatten(0, 1), labels.flatten(0, 1))

    def said(self, logits: Tensor, labels: Tensor) -> list[Any]:
        """Cosine with the vector of the model as given."""
        return [plain(value) for value in (unit(logits) * unit(labels)).sum(-1)[:, 0].tolist()]

    def usual(self, known: Sequence[Any], labels: Tensor) -> Tensor:
        return torch.randn(labels.shape, generator=torch.Generator().manual_seed(0))

    def measure(self, logits: Tensor, labels: Tensor) -> Measure:
        """Mean cosine, and how many of the ten nearest other rows are the same; (N, 1, D) each, or the first of D."""
        ours, given = unit(logits[:, 0]), unit(labels[:, 0])
        alike = unit(labels[:, 0, : ours.shape[1]])
        values = {"cosine": (ours * alike).sum(1), "same_neighbours": same_neighbours(ours, given)}
        return mean_of_rows({name: value.double().numpy() for name, value in values.items()}, np.ones(len(logits)))


def same_neighbours(ours: Tensor, theirs: Tensor) -> Tensor:
    """Of each row, the share of its nearest others by one set of unit vectors that are so by the other: (N,)."""
    rows, most = len(ours), min(NEAREST, len(ours) - 1)
    if not most:
        return torch.ones(rows)
    found = []
    for start in range(0, rows, PART):
        near = []
        for vectors in (ours, theirs):
            cosines = vectors[start : start + PART] @ vectors.T
            cosines[torch.arange(len(cosines)), torch.arange(start, start + len(cosines))] = -2
            near.append(cosines.topk(most, 1).indices)
        found.append((near[0][:, :, None] == near[1][:, None]).any(2).double().mean(1))
    return torch.cat(found)
