"""95 % intervals of quality: of shares from Wilson's, of all else by a bootstrap over rows.

A mean over classes has the wider of two: a bootstrap, and one put together from Wilson's of each class (MOVER: Zou and
Donner, Statistics in Medicine 2008). The first is too narrow where a class has few rows, since resamples of one that is
right are right; the second where there are many such classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from core.spec.metrics import NUMBERS

Z95 = 1.959964
RESAMPLES = 2000
CELLS = 4_000_000  # weights of resamples that are held at once

Interval = dict[str, float]
Array = NDArray[np.float64]
Measure = Callable[[Array], dict[str, Array]]  # how often each row counts, (R, N) -> each metric, (R,)


@dataclass(frozen=True)
class Counted:
    """A measure, and how many are counted for those of its metrics that are not of rows: entities, labels, queries."""

    measure: Measure
    counts: Mapping[str, float]

    def __call__(self, weights: Array) -> dict[str, Array]:
        return self.measure(weights)


def value_of(measure: Measure, rows: int) -> dict[str, float]:
    """Each metric on all rows."""
    return {name: float(value[0]) for name, value in measure(np.ones((1, rows))).items()}


def bootstrap(measure: Measure, rows: int) -> dict[str, Interval]:
    """Each metric as {value, low, high}: percentiles over 2,000 resamples of the rows; Wilson's where all are alike.

    That is of the rows, or of what is counted where this is less: entities of one row are wrong together.
    """
    drawn = _resampled(measure, np.ones(rows))
    counts = measure.counts if isinstance(measure, Counted) else {}
    result = {}
    for name, value in value_of(measure, rows).items():
        found = percentiles(value, drawn[name])
        alike = found["low"] == found["high"] and name not in NUMBERS
        result[name] = share(value, max(1, min(rows, counts.get(name, rows)))) if alike else found
    return result


def lead(one: Measure, other: Measure, rows: int) -> dict[str, Interval]:
    """By how much one leads the other in each metric, as {value, low, high}: both on the same resamples."""
    return lead_of_kinds(one, other, np.ones(rows))


def lead_of_kinds(one: Measure, other: Measure, counts: Array) -> dict[str, Interval]:
    """As `lead`, where rows that are alike in all that is measured are one kind, (K,): `counts` says how many each."""

    def gained(weights: Array) -> dict[str, Array]:
        ours, theirs = one(weights), other(weights)
        return {name: ours[name] - theirs[name] for name in ours}

    drawn, values = _resampled(gained, counts), gained(counts[None])
    return {name: percentiles(float(value[0]), drawn[name]) for name, value in values.items()}


def _resampled(measure: Measure, counts: Array) -> dict[str, list[Array]]:
    rng, rows = np.random.default_rng(0), int(counts.sum())
    drawn: dict[str, list[Array]] = {}
    at_once = max(1, CELLS // len(counts))
    for start in range(0, RESAMPLES, at_once):
        weights = rng.multinomial(rows, counts / rows, size=min(at_once, RESAMPLES - start))
        for name, values in measure(weights.astype(np.float64)).items():
            drawn.setdefault(name, []).append(values)
    return drawn


def wider(one: Mapping[str, Interval], other: Mapping[str, Interval]) -> dict[str, Interval]:
    """Intervals of the same metrics, from the lowest to the highest."""
    ends = {name: (one[name], other.get(name, one[name])) for name in one}
    return {
        name: a | {"low": min(a["low"], b["low"]), "high": max(a["high"], b["high"])} for name, (a, b) in ends.items()
    }


def percentiles(value: float, drawn: Sequence[Array]) -> Interval:
    low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high)}


def share(share: float, rows: float) -> Interval:
    low, high = wilson(np.array(share), np.array(rows))
    return {"value": float(share), "low": float(low), "high": float(high)}


def f1_parts(right: Array, said: Array, true: Array) -> tuple[Array, Array, Array]:
    """F1 of each class, how much a row that is right adds to it, and one that is wrong takes away."""
    f1 = 2 * right / (said + true)
    return f1, 2 * (1 - f1) / (said + true), f1 / (said + true)


def f1_range(right: Array, said: Array, true: Array) -> tuple[Array, Array]:
    """Of each class: F1 is 2 J / (1 + J), where J is the share that is right of the rows that have or are said to."""
    rows = said + true - right
    low, high = wilson(right / rows, rows)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def mean_of(values: Array, low: Array, high: Array, covariance: Array) -> Interval:
    """The mean of values with intervals, which vary together as `covariance` says."""
    deviation = np.sqrt(np.diagonal(covariance))
    scale = np.outer(deviation, deviation)
    together = np.divide(covariance, scale, out=np.eye(len(values)), where=scale > 0)
    below, above = (sqrt(max(0.0, part @ together @ part)) / len(values) for part in (values - low, high - values))
    value = float(values.mean())
    return {"value": value, "low": max(0.0, value - below), "high": min(1.0, value + above)}


def f1_of(both: Array, said: Array, true: Array) -> Array:
    return np.divide(2 * both, said + true, out=np.zeros(both.shape), where=said + true > 0)


def wilson(share: Array, n: Array) -> tuple[Array, Array]:
    """95 % score intervals of proportions (Wilson, JASA 1927)."""
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    return np.clip(centre - half, 0, share), np.clip(centre + half, share, 1)
