"""A number a row: correlations, R2, root mean square error."""

from __future__ import annotations

import numpy as np

from core.measures.intervals import Array, Measure

ROUNDING = 1e-6  # relative, of float32 arithmetic on other batches


def of_numbers(predicted: Array, truth: Array) -> Measure:
    """Pearson's and Spearman's correlation (0 where either is constant), R2 and root mean square error; (N,) each.

    Predictions that differ by rounding alone are constant.
    """
    if np.ptp(predicted) <= ROUNDING * max(np.abs(predicted).max(), truth.std()):
        predicted = np.full_like(predicted, predicted.mean())
    least = (ROUNDING * np.ptp(truth)) ** 2  # less is the rounding of what is constant

    def measure(weights: Array) -> dict[str, Array]:
        total = weights.sum(1)
        error = weights @ (predicted - truth) ** 2 / total
        spread = (weights * (truth - (weights @ truth / total)[:, None]) ** 2).sum(1) / total
        return {
            "pearson": _correlation(predicted, truth, weights),
            "spearman": _correlation(_ranks(predicted, weights), _ranks(truth, weights), weights),
            "r2": 1 - np.divide(error, spread, out=np.ones_like(error), where=spread > least),
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
