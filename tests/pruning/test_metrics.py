"""Metrics against hand-computed values, and intervals against known ones."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from core.pruning.metrics import confusion, scores, wilson, with_intervals


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
    low, high = wilson(81 / 263, 263)  # Newcombe, Statistics in Medicine 1998, table I
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson(1.0, 100)[1] == 1.0 and wilson(0.0, 100)[0] == 0.0


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
        assert (found[name]["low"], found[name]["high"]) == pytest.approx((low, high), abs=0.01)
    many = torch.arange(3000) % 1000
    tracemalloc.start()
    assert with_intervals(torch.nn.functional.one_hot(many, 1000).float(), many)["f1"]["low"] == 1.0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400e6


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
