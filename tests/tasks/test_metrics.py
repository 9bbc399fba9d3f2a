"""Metrics against hand-computed values, and intervals against known ones."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from core.measures.intervals import wilson
from core.tasks import Task
from core.tasks.classes import SingleLabel, confusion, scores, with_intervals
from core.tasks.labels import MultiLabel
from core.tasks.ranking import Ranking
from core.tasks.tags import Tags


def test_metrics_of_a_known_confusion() -> None:
    truth = torch.tensor([0] * 6 + [1] * 3 + [2])
    predicted = torch.tensor([0, 0, 0, 0, 1, 2, 1, 1, 0, 2])
    got = {name: float(value) for name, value in scores(confusion(predicted, truth, 3)).items()}
    assert got["accuracy"] == pytest.approx(0.7)
    assert got["balanced_accuracy"] == pytest.approx((4 / 6 + 2 / 3 + 1) / 3)
    assert got["f1"] == pytest.approx((8 / 11 + 4 / 6 + 2 / 3) / 3)


def test_absent_classes_do_not_count() -> None:
    """A class that no row has is left out of the means, also where it is predicted."""
    counts = confusion(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]), 3)
    assert float(scores(counts)["balanced_accuracy"]) == pytest.approx(0.75)


def test_wilson_interval_of_the_textbook() -> None:
    low, high = wilson(np.array([81 / 263, 0.0, 1.0]), np.array([263, 100, 100]))
    assert (round(low[0], 4), round(high[0], 4)) == (0.2553, 0.3662)  # Newcombe, Statistics in Medicine 1998, table I
    assert high[2] == 1.0 and low[1] == 0.0


def test_the_empty_cells_of_a_confusion_need_no_draws() -> None:
    """Against resamples of the rows themselves; and a thousand classes, whose cells would take gigabytes."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(4, (300,), generator=generator)
    logits = torch.randn(300, 4, generator=generator) + 2 * torch.nn.functional.one_hot(truth, 4)
    found = with_intervals(logits, truth)
    index = torch.randint(300, (2000, 300), generator=generator)
    again = [scores(confusion(logits[i].argmax(1), truth[i], 4)) for i in index]
    for name in ("balanced_accuracy", "f1"):
        low, high = np.percentile([float(one[name]) for one in again], [2.5, 97.5])
        assert (found[name]["low"], found[name]["high"]) == pytest.approx((low, high), abs=0.015)
    many = torch.arange(3000) % 1000
    tracemalloc.start()
    assert 0.98 < with_intervals(torch.nn.functional.one_hot(many, 1000).float(), many)["f1"]["low"] < 1.0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400e6


@pytest.mark.parametrize("problem", [SingleLabel(("a", "b", "c")), Tags(("B-x", "I-x", "O"))])
def test_a_difference_is_paired_by_rows(problem: Task) -> None:
    """Of two models that differ on four rows of 400, the interval is that of these rows, not of two samples."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(3, (400, 1) if problem.of_words else (400,), generator=generator)
    said = torch.where(torch.rand(truth.shape, generator=generator) < 0.7, truth, (truth + 1) % 3)
    other = said.clone()
    rows = (said == truth).flatten().nonzero().flatten()[:4]
    other[rows] = (truth[rows] + 1) % 3
    one, less = (torch.nn.functional.one_hot(part, 3).float() for part in (said, other))
    metric = "token_accuracy" if problem.of_words else "accuracy"
    found = problem.apart(one, less, truth)
    assert found[metric]["value"] == pytest.approx(0.01)
    assert found[metric]["low"] == pytest.approx(0.0025, abs=0.0026)  # of 400 rows, 1 to 8
    assert found[metric]["high"] == pytest.approx(0.02, abs=0.0026)
    assert {*found} == {*problem.intervals(one, truth)}
    for name, end in found.items():
        assert end["value"] == pytest.approx(problem.quality(one, truth)[name] - problem.quality(less, truth)[name])
    nothing = problem.apart(one, one, truth)
    assert all(end == {"value": 0.0, "low": 0.0, "high": 0.0} for end in nothing.values())


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = {"accuracy": 0, "balanced_accuracy": 0}
    for _ in range(200):
        truth = torch.from_numpy((rng.random(200) < 0.3).astype(np.int64))
        right = torch.from_numpy(rng.random(200) < 0.8)
        predicted = torch.where(right, truth, 1 - truth)
        found = with_intervals(torch.nn.functional.one_hot(predicted, 2).float(), truth)
        for name in covered:
            covered[name] += found[name]["low"] <= 0.8 <= found[name]["high"]
    assert all(count >= 180 for count in covered.values()), covered


def drawn(
    shares: list[float], right: list[float], rows: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels, and answers that are right for a share of each class, else the next class."""
    truth = rng.choice(len(shares), size=rows, p=shares)
    predicted = np.where(rng.random(rows) < np.array(right)[truth], truth, (truth + 1) % len(shares))
    return torch.from_numpy(truth), torch.nn.functional.one_hot(torch.from_numpy(predicted), len(shares)).float()


@pytest.mark.parametrize(
    ("shares", "right", "rows", "least"),
    [
        ([0.97, 0.03], [0.97, 0.5], 100, 0.9),  # 3 rows of the rare class as a rule: a bootstrap alone covers 0.8
        ([0.8, 0.2], [0.95, 0.7], 100, 0.9),
        ([0.1] * 10, [0.8] * 10, 40, 0.9),
        ([0.02] * 50, [0.8] * 50, 100, 0.87),  # macro F1 of so few rows a class lies too low
    ],
)
def test_intervals_hold_for_classes_of_few_rows(
    shares: list[float], right: list[float], rows: int, least: float
) -> None:
    rng = np.random.default_rng(0)
    truth, logits = drawn(shares, right, 1_000_000, rng)
    wanted = scores(confusion(logits.argmax(1), truth, len(shares)))
    covered = {"balanced_accuracy": 0, "f1": 0}
    drawings = 0
    while drawings < 150:
        truth, logits = drawn(shares, right, rows, rng)
        if len(truth.unique()) < min(5, len(shares)):
            continue  # of a class without rows nothing is said
        drawings += 1
        found = with_intervals(logits, truth)
        for name in covered:
            assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
            covered[name] += found[name]["low"] - 1e-3 <= float(wanted[name]) <= found[name]["high"] + 1e-3
    assert all(count >= least * drawings for count in covered.values()), covered


def test_a_handful_of_right_answers_is_not_certain() -> None:
    truth = torch.tensor([0] * 20 + [1] * 2)
    found = with_intervals(torch.nn.functional.one_hot(truth, 2).float(), truth)
    assert all(one["value"] == one["high"] == 1.0 for one in found.values())
    assert found["balanced_accuracy"]["low"] < 0.7 and found["f1"]["low"] < 0.85
    held = torch.nn.functional.one_hot(truth, 3)  # of several labels: the third never applies
    several = MultiLabel(("a", "b", "c")).intervals(held - 0.5, held)
    assert all(one["low"] < 0.9 for one in several.values()), several
    none = torch.zeros(5, 3)
    assert MultiLabel(("a", "b", "c")).intervals(none - 1, none)["macro_f1"]["high"] > 0


def test_what_is_all_right_is_as_sure_as_what_was_counted_is_many() -> None:
    """However many rows there are beside: entities, labels, or queries whose documents differ."""
    tags = torch.tensor([[0, 1]] * 5 + [[2, 2]] * 495)
    words = Tags(("B-x", "I-x", "O")).intervals(torch.nn.functional.one_hot(tags, 3).float(), tags)
    few = pytest.approx(float(wilson(np.array(1.0), np.array(5.0))[0]))
    assert words["entity_f1"] == {"value": 1.0, "low": few, "high": 1.0} and words["token_accuracy"]["low"] > 0.99
    held = torch.tensor([[1.0, 0]] * 5 + [[0, 0]] * 495)
    labels = MultiLabel(("a", "b")).intervals(held - 0.5, held)
    assert labels["micro_f1"]["low"] == few and labels["subset_accuracy"]["low"] > 0.99
    relevance = torch.tensor([[query, float(first and query < 5)] for query in range(250) for first in (1, 0)])
    ranked = Ranking().intervals(relevance[:, 1:], relevance.double())
    assert ranked["mrr"]["low"] == ranked["ndcg_at_10"]["low"] == few
    many = torch.zeros(5, 9, dtype=torch.int64)  # entities of one row are no rows
    rows = Tags(("B-x", "I-x", "O")).intervals(torch.nn.functional.one_hot(many, 3).float(), many)
    assert rows["entity_f1"]["low"] == few
