"""Quality with its 95 % interval: of shares and their means from Wilson's, of all else by a bootstrap over rows.

A mean over classes has the wider of two: a bootstrap, and one put together from Wilson's of each class (MOVER: Zou and
Donner, Statistics in Medicine 2008). The first is too narrow where a class has few rows, since resamples of one that is
right are right; the second where there are many such classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Z95 = 1.959964
RESAMPLES = 2000
CELLS = 4_000_000  # weights of resamples that are held at once

# As they are shown; all but those of numbers are shares.
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
}
CORRELATIONS = ("pearson", "spearman")
NUMBERS = (*CORRELATIONS, "r2", "rmse")
ROUNDING = 1e-6  # relative, of float32 arithmetic on other batches

Interval = dict[str, float]
Array = NDArray[np.float64]
Counts = NDArray[np.int64]
Measure = Callable[[Array], dict[str, Array]]  # how often each row counts, (R, N) -> each metric, (R,)


def confusion(predicted: Tensor, truth: Tensor, classes: int) -> NDArray[np.int64]:
    """Counts, (classes, classes): row = true class, column = predicted."""
    flat = torch.bincount(truth * classes + predicted, minlength=classes * classes)
    counts: NDArray[np.int64] = flat.reshape(classes, classes).numpy()
    return counts


def scores(counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Accuracy, balanced accuracy and macro F1 of a confusion matrix, (C, C)."""
    return _scores(np.diagonal(counts), counts.sum(-1), counts.sum(-2))


def _scores(
    right: NDArray[np.int64], true: NDArray[np.int64], predicted: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Of how many rows of each class are right, there are, and were predicted: (..., C) each -> (...).

    Classes that do not occur do not count in the two means.
    """
    present = true > 0
    recall = np.divide(right, true, out=np.zeros(right.shape), where=present)
    f1 = np.divide(2 * right, true + predicted, out=np.zeros(right.shape), where=true + predicted > 0)
    classes = present.sum(-1)
    return {
        "accuracy": right.sum(-1) / true.sum(-1),
        "balanced_accuracy": recall.sum(-1) / classes,
        "f1": np.where(present, f1, 0).sum(-1) / classes,
    }


def with_intervals(logits: Tensor, truth: Tensor) -> dict[str, Interval]:
    """Each metric as {value, low, high}.

    A bootstrap over rows is, of functions of the confusion matrix, one multinomial draw a resample, of the cells that
    are not empty.
    """
    counts = confusion(logits.argmax(1), truth, logits.shape[1])
    parts: dict[str, list[Array]] = {}
    for drawn in _redrawn(counts):
        for name, values in _scores(*drawn).items():
            parts.setdefault(name, []).append(values)
    found = class_intervals(counts)
    means = ("balanced_accuracy", "f1")
    return wider(found, {name: _percentiles(found[name]["value"], parts[name]) for name in means})


def lead_over_one(logits: Tensor, truth: Tensor, constant: int) -> dict[str, Interval]:
    """By how much each metric leads that of always giving the class `constant`, as {value, low, high}."""
    counts = confusion(logits.argmax(1), truth, logits.shape[1])
    said = np.arange(len(counts)) == constant

    def gained(right: Counts, true: Counts, predicted: Counts) -> dict[str, Array]:
        ours, other = _scores(right, true, predicted), _scores(true * said, true, true.sum(-1, keepdims=True) * said)
        return {name: ours[name] - other[name] for name in ours}

    parts: dict[str, list[Array]] = {}
    for drawn in _redrawn(counts):
        for name, values in gained(*drawn).items():
            parts.setdefault(name, []).append(values)
    value = gained(np.diagonal(counts), counts.sum(1), counts.sum(0))
    return {name: _percentiles(float(value[name]), parts[name]) for name in value}


def _redrawn(counts: Counts) -> Iterator[tuple[Counts, Counts, Counts]]:
    """Resamples of a confusion matrix, some at a time: what `_scores` takes, (R, C) each."""
    classes, n = len(counts), int(counts.sum())
    rows, columns = counts.nonzero()
    each, rng = counts[rows, columns] / n, np.random.default_rng(0)
    at_once = max(1, CELLS // (len(each) + classes))
    for start in range(0, RESAMPLES, at_once):
        drawn = rng.multinomial(n, each, size=min(at_once, RESAMPLES - start))
        right, true, predicted = (
            _summed(cells, owner, classes)
            for cells, owner in ((drawn * (rows == columns), rows), (drawn, rows), (drawn, columns))
        )
        yield right, true, predicted


def _summed(cells: NDArray[Any], owner: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Sums of the cells of each owner, (R, K) -> (R, classes)."""
    order = owner.argsort(kind="stable")
    present, starts = np.unique(owner[order], return_index=True)
    sums = np.zeros((len(cells), classes), dtype=np.int64)
    sums[:, present] = np.add.reduceat(cells[:, order], starts, axis=1)
    return sums


def class_intervals(counts: NDArray[np.int64]) -> dict[str, Interval]:
    """Of a confusion matrix: accuracy, and the means of the recalls and F1s of the classes that have rows."""
    present = counts.sum(1) > 0
    true, said, right = (part[present].astype(float) for part in (counts.sum(1), counts.sum(0), np.diagonal(counts)))
    recall = right / true
    f1, gain, loss = _shares(right, said, true)
    errors = (counts + counts.T)[np.ix_(present, present)]  # a row that is wrong is so for two classes
    shared = errors * np.outer(loss, loss)
    np.fill_diagonal(shared, right * gain**2 + (true + said - 2 * right) * loss**2)
    return {
        "accuracy": _share(right.sum() / true.sum(), true.sum()),
        "balanced_accuracy": _mean(recall, *wilson(recall, true), np.eye(len(true))),
        "f1": _mean(f1, *_f1_range(right, said, true), shared),
    }


def label_intervals(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, Interval]:
    """As of classes, of several labels, (N, K) each: macro F1, and the share of rows with every label right."""
    present = truth.any(0)
    both, either = (part[:, present].astype(float) for part in (predicted & truth, predicted | truth))
    right, said, true = both.sum(0), predicted[:, present].sum(0), truth[:, present].sum(0)
    f1, gain, loss = _shares(right, said, true)
    moved = both * gain - (either - both) * loss  # what each row does to each label's F1
    found = {"subset_accuracy": _share((predicted == truth).all(1).mean(), len(truth))}
    return found | ({"macro_f1": _mean(f1, *_f1_range(right, said, true), moved.T @ moved)} if len(f1) else {})


def _shares(right: Array, said: Array, true: Array) -> tuple[Array, Array, Array]:
    """F1 of each class, how much a row that is right adds to it, and one that is wrong takes away."""
    f1 = 2 * right / (said + true)
    return f1, 2 * (1 - f1) / (said + true), f1 / (said + true)


def _f1_range(right: Array, said: Array, true: Array) -> tuple[Array, Array]:
    """Of each class: F1 is 2 J / (1 + J), where J is the share that is right of the rows that have or are said to."""
    rows = said + true - right
    low, high = wilson(right / rows, rows)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def _mean(values: Array, low: Array, high: Array, covariance: Array) -> Interval:
    """The mean of values with intervals, which vary together as `covariance` says."""
    deviation = np.sqrt(np.diagonal(covariance))
    scale = np.outer(deviation, deviation)
    together = np.divide(covariance, scale, out=np.eye(len(values)), where=scale > 0)
    below, above = (sqrt(max(0.0, part @ together @ part)) / len(values) for part in (values - low, high - values))
    value = float(values.mean())
    return {"value": value, "low": max(0.0, value - below), "high": min(1.0, value + above)}


def _share(share: float, rows: float) -> Interval:
    low, high = wilson(np.array(share), np.array(rows))
    return {"value": float(share), "low": float(low), "high": float(high)}


def shown(value: float, metric: str) -> str:
    """As people read it: 81.9%, or 0.8194."""
    return f"{value:.4g}" if metric in NUMBERS else f"{value:.1%}"


def value_of(measure: Measure, rows: int) -> dict[str, float]:
    """Each metric on all rows."""
    return {name: float(value[0]) for name, value in measure(np.ones((1, rows))).items()}


def bootstrap(measure: Measure, rows: int) -> dict[str, Interval]:
    """Each metric as {value, low, high}: percentiles over 2,000 resamples of the rows; Wilson's where all are alike."""
    drawn = _resampled(measure, rows)
    result = {}
    for name, value in value_of(measure, rows).items():
        found = _percentiles(value, drawn[name])
        alike = found["low"] == found["high"] and name not in NUMBERS
        result[name] = _share(value, rows) if alike else found
    return result


def lead(one: Measure, other: Measure, rows: int) -> dict[str, Interval]:
    """By how much one leads the other in each metric, as {value, low, high}: both on the same resamples."""

    def gained(weights: Array) -> dict[str, Array]:
        ours, theirs = one(weights), other(weights)
        return {name: ours[name] - theirs[name] for name in ours}

    drawn = _resampled(gained, rows)
    return {name: _percentiles(value, drawn[name]) for name, value in value_of(gained, rows).items()}


def _resampled(measure: Measure, rows: int) -> dict[str, list[Array]]:
    rng = np.random.default_rng(0)
    drawn: dict[str, list[Array]] = {}
    at_once = max(1, CELLS // rows)
    for start in range(0, RESAMPLES, at_once):
        weights = rng.multinomial(rows, np.full(rows, 1 / rows), size=min(at_once, RESAMPLES - start))
        for name, values in measure(weights.astype(np.float64)).items():
            drawn.setdefault(name, []).append(values)
    return drawn


def wider(one: Mapping[str, Interval], other: Mapping[str, Interval]) -> dict[str, Interval]:
    """Intervals of the same metrics, from the lowest to the highest."""
    ends = {name: (one[name], other.get(name, one[name])) for name in one}
    return {
        name: a | {"low": min(a["low"], b["low"]), "high": max(a["high"], b["high"])} for name, (a, b) in ends.items()
    }


def _percentiles(value: float, drawn: Sequence[Array]) -> Interval:
    low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high)}


def of_classes(predicted: NDArray[np.int64], truth: NDArray[np.int64], classes: int) -> Measure:
    """Accuracy, balanced accuracy and macro F1; (N,) each."""
    right = predicted == truth

    def measure(weights: Array) -> dict[str, Array]:
        parts = (weights * right, truth), (weights, truth), (weights, predicted)
        return _scores(*(_summed(cells, owner, classes) for cells, owner in parts))

    return measure


def of_labels(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Measure:
    """Micro F1, macro F1 (over the labels that occur) and the share of rows with every label right; (N, K) each."""
    parts = [part.astype(np.float64) for part in (predicted & truth, predicted, truth)]
    right = (predicted == truth).all(1)

    def measure(weights: Array) -> dict[str, Array]:
        both, said, true = (weights @ part for part in parts)  # (R, K)
        present = true > 0
        return {
            "micro_f1": _f1(both.sum(1), said.sum(1), true.sum(1)),
            "macro_f1": np.where(present, _f1(both, said, true), 0).sum(1) / present.sum(1).clip(min=1),
            "subset_accuracy": weights @ right / weights.sum(1),
        }

    return measure


def of_numbers(predicted: Array, truth: Array) -> Measure:
    """Pearson's and Spearman's correlation (0 where either is constant), R2 and root mean square error; (N,) each.

    Predictions that differ by rounding alone are constant.
    """
    if np.ptp(predicted) <= ROUNDING * max(np.abs(predicted).max(), truth.std()):
        predicted = np.full_like(predicted, predicted.mean())

    def measure(weights: Array) -> dict[str, Array]:
        total = weights.sum(1)
        error = weights @ (predicted - truth) ** 2 / total
        spread = (weights * (truth - (weights @ truth / total)[:, None]) ** 2).sum(1) / total
        return {
            "pearson": _correlation(predicted, truth, weights),
            "spearman": _correlation(_ranks(predicted, weights), _ranks(truth, weights), weights),
            "r2": 1 - np.divide(error, spread, out=np.ones_like(error), where=spread > 0),
            "rmse": np.sqrt(error),
        }

    return measure


def of_tags(predicted: Sequence[Sequence[str]], truth: Sequence[Sequence[str]], mark: bool) -> Measure:
    """The share of words with the right tag and, of tags that `mark` entities, F1 of these, as conlleval."""
    words = np.array([[sum(map(str.__eq__, p, t)), len(t)] for p, t in zip(predicted, truth, strict=True)], float)
    spans = [(entities(p), entities(t)) for p, t in zip(predicted, truth, strict=True)] if mark else []
    counts = np.array([[len(p & t), len(p), len(t)] for p, t in spans], float)

    def measure(weights: Array) -> dict[str, Array]:
        right, all_words = (weights @ words).T
        accuracy = np.divide(right, all_words, out=np.zeros_like(right), where=all_words > 0)
        found = {"entity_f1": _f1(*(weights @ counts).T)} if mark else {}
        return found | {"token_accuracy": accuracy}

    return measure


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """(kind, first word, word after the last) of each entity, by IOB1, IOB2, BIOES or BILOU.

    B begins one; I and E (or L) go on with one of their kind, or begin one; E (L) ends it; S (or U) is one.
    """
    found, kind, start, ended = set(), "", 0, False
    for i, tag in enumerate([*tags, "O"]):
        mark = tag[0]
        if kind and (ended or mark in "OBSU" or tag[2:] != kind):
            found.add((kind, start, i))
            kind = ""
        if not kind and tag != "O":
            kind, start = tag[2:], i
        ended = mark in "ELSU"
    return found


def _f1(both: Array, said: Array, true: Array) -> Array:
    return np.divide(2 * both, said + true, out=np.zeros(both.shape), where=said + true > 0)


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


def wilson(share: Array, n: Array) -> tuple[Array, Array]:
    """95 % score intervals of proportions (Wilson, JASA 1927)."""
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    return np.clip(centre - half, 0, share), np.clip(centre + half, share, 1)
