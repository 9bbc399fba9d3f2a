"""`text_ranking`: a query and a document, read together; a score by which the documents of a query are ordered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.measures.intervals import Measure
from core.rows.labels import Label
from core.tasks.retrieval import CUTOFF
from core.tasks.task import Task, plain
from core.tasks.vectors import mean_of_rows

DECIMALS = 5  # of scores that are told apart: texts of the same tokens have scores that differ by rounding
DIGITS = 12  # of a query's identity, so that float64 holds it


@dataclass(frozen=True)
class Ranking(Task):
    """A score. Logits are (N, 1), labels (N, 2): which query it is, and the document's relevance, from 0 to `most`."""

    most: float = 1.0
    usual_answer: ClassVar[str] = "a random order"

    @classmethod
    def of(cls, labels: Sequence[str], known: Sequence[Label] = ()) -> Self:
        relevance = [float(label[1]) for label in known if isinstance(label, tuple)]
        return cls(tuple(labels), most=max(relevance, default=1.0) or 1.0)

    def encode(self, labels: Sequence[Any], encoded: Any = None) -> Tensor:
        rows = [[int(query[:DIGITS], 16), float(relevance)] for query, relevance in labels]
        return torch.tensor(rows, dtype=torch.float64).reshape(len(labels), 2)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross entropy, of relevance in parts of the highest."""
        return F.binary_cross_entropy_with_logits(logits[:, 0], (labels[:, 1] / self.most).clamp(0, 1).to(logits.dtype))

    def distillation(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Mean square distance of scores."""
        return F.mse_loss(student, teacher)

    def said(self, logits: Tensor, labels: Tensor) -> list[Any]:
        return [plain(value) for value in logits[:, 0].tolist()]

    def usual(self, known: Sequence[Any], labels: Tensor) -> Tensor:
        return torch.randn(len(labels), 1, generator=torch.Generator().manual_seed(0))

    def measure(self, logits: Tensor, labels: Tensor) -> Measure:
        """nDCG@10 (gains are the relevance) and mean reciprocal rank of the queries whose documents differ."""
        queries, first, query = np.unique(labels[:, 0].numpy(), return_index=True, return_inverse=True)
        scores, relevance = logits[:, 0].double().numpy().round(DECIMALS), labels[:, 1].numpy()
        discount = 1 / np.log2(np.arange(2, CUTOFF + 2))
        each = {name: np.zeros(len(queries)) for name in ("ndcg_at_10", "mrr")}
        once = np.zeros(len(labels))
        # By query, the best score first; of equal scores the least relevant.
        order = np.lexsort((relevance, -scores, query))
        for number, rows in enumerate(np.split(order, np.cumsum(np.bincount(query))[:-1])):
            gains = relevance[rows]
            if gains.min() == gains.max():
                continue
            ideal = np.sort(gains)[::-1][:CUTOFF]
            once[first[number]] = 1
            each["ndcg_at_10"][number] = gains[:CUTOFF] @ discount[: len(gains)] / (ideal @ discount[: len(ideal)])
            each["mrr"][number] = 1 / (1 + int(np.argmax(gains > 0)))
        return mean_of_rows({name: value[query] for name, value in each.items()}, once)
