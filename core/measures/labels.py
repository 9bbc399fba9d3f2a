"""Any number of labels a row: micro F1, macro F1, the share of rows with every label right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.measures.intervals import Array, Counted, Measure, f1_of


def of_labels(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Measure:
    """Micro F1, macro F1 (over the labels that occur) and the share of rows with every label right; (N, K) each."""
    parts = [part.astype(np.float64) for part in (predicted & truth, predicted, truth)]
    right = (predicted == truth).all(1)
    either = (predicted | truth).sum(0)

    def measure(weights: Array) -> dict[str, Array]:
        both, said, true = (weights @ part for part in parts)  # (R, K)
        present = true > 0
        return {
            "micro_f1": f1_of(both.sum(1), said.sum(1), true.sum(1)),
            "macro_f1": np.where(present, f1_of(both, said, true), 0).sum(1) / present.sum(1).clip(min=1),
            "subset_accuracy": weights @ right / weights.sum(1),
        }

    return Counted(measure, {"micro_f1": float(either.sum()), "macro_f1": float(either[truth.any(0)].sum())})
