"""`text_similarity`: the order of cosines against the order of scores, in plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from core.tasks import task_of
from core.tasks import vectors as every
from core.tasks.similarity import misordered
from tests.tasks.vectors import cosine, drawn

TASK = task_of("text_similarity", ["score"], texts=2)


def pearson(x: Sequence[float], y: Sequence[float]) -> float:
    """0 where one does not vary."""
    n, (mean_x, mean_y) = len(x), (sum(x) / len(x), sum(y) / len(y))
    both = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / n
    spread = sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y)
    return both * n / math.sqrt(spread) if spread else 0.0


def ranks(x: Sequence[float]) -> list[float]:
    """From 1, equals at their mean."""
    return [sum(b < a for b in x) + (1 + sum(b == a for b in x)) / 2 for a in x]


@pytest.mark.parametrize("ties", [False, True])
def test_metrics_are_correlations_of_cosines_and_scores(ties: bool) -> None:
    vectors, scores = drawn(40, 2, 5), drawn(40, seed=1).double()
    if ties:
        scores, vectors[10:20] = (scores * 2).round(), vectors[:10]
    found = [round(cosine(a, b), 6) for a, b in vectors.tolist()]
    wanted = {"spearman": pearson(ranks(found), ranks(scores.tolist())), "pearson": pearson(found, scores.tolist())}
    assert TASK.quality(vectors, scores) == pytest.approx(wanted, abs=1e-5)


def turned(cosines: Sequence[float]) -> Tensor:
    """Pairs of vectors with these cosines."""
    return torch.tensor([[[1.0, 0.0], [c, math.sqrt(1 - c * c)]] for c in cosines])


def test_the_loss_is_what_it_says() -> None:
    """Of rows of one score, neither is ahead of the other."""
    vectors, scores = drawn(12, 2, 5), torch.tensor([0.0, 1, 2, 3, 1, 2, 0, 3, 3, 3, 1, 0])
    found = [cosine(a, b) / 0.05 for a, b in vectors.tolist()]
    total = sum(
        math.exp(found[j] - found[i]) for i in range(12) for j in range(12) if float(scores[i]) > float(scores[j])
    )
    assert float(TASK.loss(vectors, scores)) == pytest.approx(math.log(1 + total), rel=1e-4)


def test_the_loss_is_zero_where_the_order_is_right() -> None:
    scores = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert float(TASK.loss(turned([-0.9, -0.3, 0.3, 0.9]), scores)) < 1e-4
    assert float(TASK.loss(turned([0.9, 0.3, -0.3, -0.9]), scores)) > 30
    assert float(TASK.loss(turned([-0.9, -0.3, 0.3, 0.9]), torch.ones(4))) == 0
    assert float(TASK.loss(turned([0.0, 0.9]), scores[:2] * 1e-3)) == pytest.approx(math.log(2), abs=20)


def test_the_loss_of_many_rows_is_the_mean_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, scores = drawn(11, 2, 5), drawn(11, seed=1)
    monkeypatch.setattr(every, "PART", 5)
    parts = [float(misordered(vectors[i : i + 5], scores[i : i + 5])) for i in (0, 5, 10)]
    assert parts[2] == 0
    assert float(TASK.loss(vectors, scores)) == pytest.approx((5 * parts[0] + 5 * parts[1]) / 11)


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("fill", [0.0, 1.0, 1e-30])
@pytest.mark.parametrize("alike", [False, True])
def test_nothing_is_ever_nan(rows: int, fill: float, alike: bool) -> None:
    """Neither of vectors that are all the same, nor of scores that are."""
    vectors = torch.full((rows, 2, 4), fill, requires_grad=True)
    scores = torch.ones(rows, dtype=torch.float64) if alike else torch.arange(rows, dtype=torch.float64)
    loss = TASK.loss(vectors, scores) + TASK.distillation(vectors, torch.zeros(rows, 2, 4), scores)
    loss.backward()
    assert loss.isfinite() and vectors.grad is not None and vectors.grad.isfinite().all()
    quality = TASK.quality(vectors.detach(), scores)
    assert quality == {"spearman": 0, "pearson": 0}
    for one in TASK.intervals(drawn(rows, 2, 4), scores).values():
        assert all(map(math.isfinite, one.values()))


def test_a_row_without_a_score_teaches_no_order() -> None:
    scores = TASK.encode([1.0, None, 2.0])
    assert scores[1].isnan()
    assert float(TASK.loss(turned([0.1, -0.9, 0.9]), scores)) < 1e-4
