"""`text_similarity`: two texts, and a score of how alike they are, of which the order counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from core.measures.intervals import Array, Measure
from core.measures.numbers import of_numbers
from core.tasks.vectors import COSINE, Vectors, by_parts, prefixes, unit


class Similarity(Vectors):
    """Vectors (N, 2, D), whose cosine is to order the rows as their scores do, (N,)."""

    def encode(self, labels: Sequence[Any], encoded: Any = None) -> Tensor:
        return torch.tensor([float("nan") if label is None else label for label in labels], dtype=torch.float64)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of all pairs of rows in the batch, how far the one of the lower score has the higher cosine.

        log(1 + sum exp((c_j - c_i) / T)) over all i, j with score i > score j (CoSENT, Su 2022).
        """
        found = [by_parts(misordered, part, labels) for part in prefixes(logits, self.shorter)]
        return torch.stack(found).mean()

    def measure(self, logits: Tensor, labels: Tensor) -> Measure:
        """Spearman's and Pearson's correlation of cosines and scores."""
        vectors = unit(logits)
        found = of_numbers((vectors[:, 0] * vectors[:, 1]).sum(1).double().numpy(), labels.double().numpy())

        def measure(weights: Array) -> dict[str, Array]:
            values = found(weights)
            return {name: values[name] for name in ("spearman", "pearson")}

        return measure


def misordered(logits: Tensor, labels: Tensor) -> Tensor:
    """See `Similarity.loss`, of (B, 2, D) and (B,)."""
    vectors = unit(logits)
    cosines = (vectors[:, 0] * vectors[:, 1]).sum(1) / COSINE
    ahead = (cosines[None] - cosines[:, None])[labels[:, None] > labels[None]]
    return torch.logsumexp(torch.cat([ahead.new_zeros(1), ahead]), 0)
