"""Metrics by name: what people call them, and how a value is written."""

from __future__ import annotations

# All but `NUMBERS` are shares.
METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "macro F1",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "subset_accuracy": "subset accuracy",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "r2": "R²",
    "rmse": "root mean square error",
    "entity_f1": "entity F1",
    "token_accuracy": "token accuracy",
    "ndcg_at_10": "nDCG@10",
    "recall_at_10": "recall@10",
    "mrr": "mean reciprocal rank",
    "cosine": "agreement with dense (mean cosine)",
    "same_neighbours": "agreement with dense (ten nearest)",
}
CORRELATIONS = ("pearson", "spearman")
NUMBERS = (*CORRELATIONS, "r2", "rmse", "cosine")
# Answers that hardly differ may come in another order.
OF_ORDER = (*CORRELATIONS, "ndcg_at_10", "recall_at_10", "mrr", "same_neighbours")


def shown(value: float, metric: str) -> str:
    """Write a value as people read it: 81.9%, or 0.8194."""
    return f"{value:.4g}" if metric in NUMBERS else f"{value:.1%}"


def milliseconds(value: float) -> str:
    """Write a time as people read it: with two digits that count where it is short."""
    if 0 < value < 1:
        return f"{value:#.2g}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def megabytes(count: int) -> str:
    """Write bytes as people read them: 58.2 MB, of a million each."""
    return f"{count / 1e6:.1f} MB"
