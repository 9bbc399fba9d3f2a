"""`text_ranking`: the order of each query's documents, in plain Python."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
import torch

from core.tasks import task_of
from core.tasks.ranking import Ranking
from tests.tasks.vectors import drawn


def by_order(scores: Sequence[float], rows: Sequence[tuple[int, float]]) -> dict[str, float]:
    """Of the queries whose documents differ: what is relevant stands behind what has the same score."""
    ndcg, mrr = [], []
    for query in {query for query, _ in rows}:
        mine = [(score, gain) for score, (of, gain) in zip(scores, rows, strict=True) if of == query]
        gains = [gain for _, gain in sorted(mine, key=lambda one: (-one[0], one[1]))]
        if len({*gains}) < 2:
            continue
        ideal = sorted(gains, reverse=True)
        discounted = [sum(gain / math.log2(i + 2) for i, gain in enumerate(of[:10])) for of in (gains, ideal)]
        ndcg.append(discounted[0] / discounted[1])
        mrr.append(1 / (1 + next(i for i, gain in enumerate(gains) if gain > 0)))
    return {"ndcg_at_10": sum(ndcg) / len(ndcg), "mrr": sum(mrr) / len(mrr)}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("count", "queries"), [(60, 6), (60, 25), (40, 1)])
def test_metrics_are_those_of_the_order(ties: bool, count: int, queries: int) -> None:
    rng = random.Random(count)
    rows = [(rng.randrange(queries), float(rng.choice([0, 0, 0, 1, 3]))) for _ in range(count)]
    scores = drawn(count, 1)
    scores = scores.round() if ties else scores
    labels = torch.tensor(rows, dtype=torch.float64)
    assert Ranking().quality(scores, labels) == pytest.approx(by_order(scores[:, 0].tolist(), rows))


def test_of_equal_scores_what_is_relevant_comes_last() -> None:
    labels = torch.tensor([[1.0, 1], [1, 0], [1, 0], [2, 0], [2, 2]], dtype=torch.float64)
    found = Ranking().quality(torch.zeros(5, 1), labels)
    assert found["mrr"] == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_a_query_whose_documents_are_alike_does_not_count() -> None:
    labels = torch.tensor([[1.0, 1], [1, 0], [2, 0], [2, 0], [3, 1]], dtype=torch.float64)
    scores = torch.tensor([[5.0], [1], [1], [2], [3]])
    assert Ranking().quality(scores, labels) == {"ndcg_at_10": pytest.approx(1), "mrr": pytest.approx(1)}
    alike = Ranking().quality(scores[2:], labels[2:])
    assert alike == {"ndcg_at_10": 0, "mrr": 0}  # refused before (`require_measurable`): none counts


def test_the_loss_takes_relevance_in_parts_of_the_highest() -> None:
    task = task_of("text_ranking", ["relevance"], [("a" * 15, "0.0"), ("b" * 15, "4.0")])
    assert isinstance(task, Ranking) and task.most == 4
    labels, logits = task.encode([("a" * 15, "4.0"), ("a" * 15, "1.0"), ("b" * 15, "9.0")]), drawn(3, 1)
    wanted = 0.0
    for logit, share in zip(logits[:, 0].tolist(), (1, 0.25, 1), strict=True):  # what is above the highest is it
        p = 1 / (1 + math.exp(-logit))
        wanted -= (share * math.log(p) + (1 - share) * math.log(1 - p)) / 3
    assert float(task.loss(logits, labels)) == pytest.approx(wanted, rel=1e-5)
    assert float(task.distillation(logits, logits, labels)) == 0
    assert float(task.distillation(logits, logits + 2, labels)) == pytest.approx(4)


def test_queries_are_told_apart_by_their_identity() -> None:
    found = Ranking().encode([("ffffffffffffabc", "1.0"), ("fffffffffffeabc", "0.0")])
    assert found[0, 0] != found[1, 0]
    assert found.dtype == torch.float64 and found[:, 1].tolist() == [1, 0]
    assert Ranking().encode([]).shape == (0, 2)


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("relevance", [0.0, 1.0])
def test_nothing_is_ever_nan(rows: int, relevance: float) -> None:
    task = task_of("text_ranking", ["relevance"], [("a" * 15, repr(relevance))])
    labels = task.encode([("a" * 15, repr(relevance))] * rows)
    scores = torch.zeros(rows, 1, requires_grad=True)
    loss = task.loss(scores, labels)
    loss.backward()
    assert loss.isfinite() and scores.grad is not None and scores.grad.isfinite().all()
    numbers = [*task.quality(scores.detach(), labels).values(), *task.said(scores.detach(), labels)]
    numbers += [value for one in task.intervals(scores.detach(), labels).values() for value in one.values()]
    assert all(map(math.isfinite, numbers))


def test_what_differs_by_rounding_is_equal() -> None:
    labels = torch.tensor([[1.0, 1], [1, 0]], dtype=torch.float64)
    assert Ranking().quality(torch.tensor([[0.5 + 1e-7], [0.5]]), labels)["mrr"] == 0.5
