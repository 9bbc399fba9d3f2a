"""`text_retrieval`: a query and the document that belongs to it, which is found among all held-out ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.measures.intervals import Measure
from core.tasks.vectors import COSINE, PART, Vectors, by_parts, mean_of_rows, prefixes, unit

CUTOFF = 10  # of nDCG and recall
ROUNDING = 1e-6  # of cosines: texts of the same tokens have vectors that differ by as much, in other batches


class Retrieval(Vectors):
    """Vectors (N, k, D) of query, document and documents that do not belong; labels are which texts are one, (N, k)."""

    def encode(self, labels: Sequence[Any], encoded: Any = None) -> Tensor:
        return torch.tensor([[int(name, 16) for name in row] for row in labels], dtype=torch.int64)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of each query, cross entropy of its document against all others of the batch (InfoNCE, van den Oord 2018).

        Documents that are the same, or belong to the same query, are no negatives.
        """
        found = [by_parts(contrast, part, labels) for part in prefixes(logits, self.shorter)]
        return torch.stack(found).mean()

    def measure(self, logits: Tensor, labels: Tensor) -> Measure:
        """nDCG@10, recall@10 and mean reciprocal rank of the queries, each once; (N, k, D) and (N, k)."""
        ranks = document_ranks(logits, labels).double().numpy()
        queries, first, query = np.unique(labels[:, 0].numpy(), return_index=True, return_inverse=True)
        new = np.zeros(len(labels))  # a document that comes beside several others belongs to its query once
        new[np.unique(labels[:, :2].numpy(), axis=0, return_index=True)[1]] = 1
        hit = new * (ranks <= CUTOFF)
        relevant = np.bincount(query, new).astype(int)
        gained = np.bincount(query, hit / np.log2(1 + ranks))
        ideal = np.cumsum(1 / np.log2(np.arange(2, CUTOFF + 2)))[np.minimum(relevant, CUTOFF) - 1]
        best = np.full(len(queries), np.inf)
        np.minimum.at(best, query, ranks)
        each = {"ndcg_at_10": gained / ideal, "recall_at_10": np.bincount(query, hit) / relevant, "mrr": 1 / best}
        once = np.zeros(len(labels))
        once[first] = 1
        return mean_of_rows({name: value[query] for name, value in each.items()}, once)


def contrast(logits: Tensor, labels: Tensor) -> Tensor:
    """InfoNCE of (B, k, D) vectors of the texts `labels`, (B, k)."""
    vectors = unit(logits)
    queries, documents = vectors[:, 0], vectors[:, 1:].transpose(0, 1).flatten(0, 1)  # the queries' own come first
    cosines = queries @ documents.T / COSINE
    named, own = labels[:, 1:].T.flatten(), torch.arange(len(labels), device=labels.device)
    same_query = (labels[:, :1] == labels[:, 0]).float()
    good = same_query @ (labels[:, 1:2] == named).float() > 0  # documents of the same query, wherever they stand
    good[own, own] = False
    return F.cross_entropy(cosines.masked_fill(good, -torch.inf), own)


def document_ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """At which place each row's document comes for its query, among all, once each; of equals the last: (N,)."""
    vectors = unit(logits)
    names, places = np.unique(labels[:, 1:].flatten().numpy(), return_index=True)
    documents = vectors[:, 1:].flatten(0, 1)[torch.from_numpy(places)]
    own = torch.from_numpy(np.searchsorted(names, labels[:, 1].numpy()))
    found = []
    for start in range(0, len(vectors), PART):
        cosines = vectors[start : start + PART, 0] @ documents.T
        mine = cosines.gather(1, own[start : start + PART, None])
        found.append((cosines >= mine - ROUNDING).sum(1))
    return torch.cat(found)
