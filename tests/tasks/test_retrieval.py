"""`text_retrieval` against searches in plain Python: each query once, each document once."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from core.tasks import retrieval, task_of
from core.tasks import vectors as every
from core.tasks.retrieval import Retrieval, contrast
from tests.tasks.vectors import cosine, drawn


def by_search(vectors: Sequence[Sequence[Sequence[float]]], names: Sequence[Sequence[int]]) -> dict[str, float]:
    """Sort all documents for each query, what belongs to it behind what is equally near."""
    documents: dict[int, Sequence[float]] = {}
    queries: dict[int, Sequence[float]] = {}
    belongs: dict[int, set[int]] = {}
    for row, (query, *others) in zip(vectors, names, strict=True):
        for name, vector in zip(others, row[1:], strict=True):
            documents.setdefault(name, vector)
        queries.setdefault(query, row[0])
        belongs.setdefault(query, set()).add(others[0])
    found: dict[str, list[float]] = {"ndcg_at_10": [], "recall_at_10": [], "mrr": []}
    for query, vector in queries.items():
        mine = belongs[query]
        order = sorted(documents, key=lambda name: (-round(cosine(vector, documents[name]), 6), name in mine))
        hits = [name in mine for name in order]
        gained = sum(hit / math.log2(place + 1) for place, hit in enumerate(hits[:10], 1))
        ideal = sum(1 / math.log2(place + 1) for place in range(1, min(10, len(mine)) + 1))
        found["ndcg_at_10"].append(gained / ideal)
        found["recall_at_10"].append(sum(hits[:10]) / len(mine))
        found["mrr"].append(1 / (hits.index(True) + 1))
    return {name: sum(values) / len(values) for name, values in found.items()}


def rows_of(count: int, others: int, seed: int, queries: int, documents: int) -> tuple[Tensor, Tensor]:
    """Vectors (N, 2 + others, 8) and names: texts that have the same name have the same vector; no pair twice."""
    rng = random.Random(seed)
    texts = drawn(queries + documents, 8, seed=seed)
    pairs = rng.sample([(q, d) for q in range(queries) for d in range(documents)], count)
    belongs = {q: {d for query, d in pairs if query == q} for q in range(queries)}
    names = []
    for query, document in pairs:
        wrong = rng.sample([d for d in range(documents) if d not in belongs[query]], others)
        names.append([query, *(queries + d for d in (document, *wrong))])
    labels = torch.tensor(names)
    return texts[labels], labels


@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize(("count", "queries", "documents"), [(30, 30, 40), (60, 12, 30), (40, 2, 60), (2, 1, 5)])
def test_metrics_are_those_of_a_search(
    others: int, count: int, queries: int, documents: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, labels = rows_of(count, others, count, queries, documents)
    task = task_of("text_retrieval", ["match"], texts=2 + others)
    wanted = pytest.approx(by_search(vectors.tolist(), labels.tolist()))
    assert task.quality(vectors, labels) == wanted
    monkeypatch.setattr(retrieval, "PART", 7)
    assert task.quality(vectors, labels) == wanted


def test_a_pair_that_is_there_twice_counts_once() -> None:
    """With other documents beside it that do not belong: it would be found twice, and more than all there is."""
    vectors, labels = rows_of(40, 1, 0, 10, 20)
    vectors, labels = torch.cat([vectors, vectors[:9]]), torch.cat([labels, labels[:9]])
    vectors[-9:, 2], labels[-9:, 2] = drawn(9, 8, seed=5), torch.arange(1000, 1009)
    found = Retrieval().quality(vectors, labels)
    assert found == pytest.approx(by_search(vectors.tolist(), labels.tolist()))
    near, far = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    twice = torch.stack([torch.stack([near, near, far])] * 2)
    assert set(Retrieval().quality(twice, torch.tensor([[1, 2, 3], [1, 2, 4]])).values()) == {1.0}


def test_of_equals_the_one_that_belongs_comes_last() -> None:
    """Vectors that are all the same have found nothing."""
    count = 20
    labels = torch.stack([torch.arange(count), torch.arange(count) + 100], 1)
    for vectors in (torch.ones(count, 2, 4), torch.zeros(count, 2, 4)):
        assert Retrieval().quality(vectors, labels) == {
            "ndcg_at_10": 0.0,
            "recall_at_10": 0.0,
            "mrr": pytest.approx(1 / 20),
        }


def test_a_query_counts_once_however_many_documents_it_has() -> None:
    """One with nine documents, all found, and one with one, which is not."""
    vectors = torch.zeros(10, 2, 3)
    vectors[:9, :, 0] = 1
    vectors[9, 0, 1], vectors[9, 1, 2] = 1, 1
    labels = torch.tensor([[1, 10 + i] for i in range(9)] + [[2, 30]])
    found = Retrieval().quality(vectors, labels)
    # All of the first stand equal, at the ninth place; the second's is as far as all others.
    assert found["recall_at_10"] == pytest.approx(1.0)
    assert found["mrr"] == pytest.approx((1 / 9 + 1 / 10) / 2)


def test_a_document_in_several_rows_is_one() -> None:
    labels = torch.tensor([[i, 100 + i % 2] for i in range(12)])
    vectors = drawn(14, 6)
    rows = torch.stack([vectors[labels[:, 0]], vectors[12 + labels[:, 1] - 100]], 1)
    assert Retrieval().quality(rows, labels) == pytest.approx(by_search(rows.tolist(), labels.tolist()))
    assert Retrieval().quality(rows, labels)["mrr"] >= 0.5  # there are two


def by_definition(vectors: Sequence[Sequence[Sequence[float]]], names: Sequence[Sequence[int]]) -> float:
    """Of each query, -log of the share that its own document has of all that may stand beside it."""
    losses = []
    documents = [
        (name, row[1 + i])
        for i in range(len(names[0]) - 1)
        for name, row in zip([line[1 + i] for line in names], vectors, strict=True)
    ]
    for row, (query, *_) in zip(vectors, names, strict=True):
        good = {line[1] for line in names if line[0] == query}
        mine = math.exp(cosine(row[0], row[1]) / 0.05)
        others = sum(math.exp(cosine(row[0], vector) / 0.05) for name, vector in documents if name not in good)
        losses.append(-math.log(mine / (mine + others)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize(("count", "queries", "documents"), [(16, 16, 20), (24, 5, 12)])
def test_the_loss_takes_no_document_that_belongs_for_one_that_does_not(
    others: int, count: int, queries: int, documents: int
) -> None:
    vectors, labels = rows_of(count, others, 1, queries, documents)
    wanted = by_definition(vectors.tolist(), labels.tolist())
    assert float(Retrieval().loss(vectors, labels)) == pytest.approx(wanted, rel=1e-4)


def test_where_all_documents_belong_there_is_nothing_to_learn() -> None:
    labels = torch.tensor([[1, 10], [1, 11], [2, 10]])  # 11 is the first query's alone
    vectors = drawn(3, 2, 4).requires_grad_()
    contrast(vectors[:2], labels[:2]).backward()
    assert vectors.grad is not None and not vectors.grad.any()
    assert float(contrast(vectors.detach(), labels)) > 0


def test_the_loss_of_many_rows_is_the_mean_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each as much as it has rows: of eleven, the last is alone in its part, where it has nothing to be told from."""
    vectors, labels = rows_of(11, 1, 2, 11, 11)
    monkeypatch.setattr(every, "PART", 5)
    parts = [float(contrast(vectors[i : i + 5], labels[i : i + 5])) for i in (0, 5)]
    assert float(Retrieval().loss(vectors, labels)) == pytest.approx(
        sum(parts) * 5 / 11 + float(contrast(vectors[10:], labels[10:])) / 11
    )


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("fill", [0.0, 1.0, 1e-30])
def test_nothing_is_ever_nan(rows: int, fill: float) -> None:
    task = task_of("text_retrieval", ["match"], texts=3)
    vectors = torch.full((rows, 3, 4), fill, requires_grad=True)
    labels = torch.arange(3 * rows).reshape(rows, 3)
    loss = task.loss(vectors, labels) + task.distillation(vectors, torch.zeros(rows, 3, 4), labels)
    loss.backward()
    assert vectors.grad is not None and vectors.grad.isfinite().all() and loss.isfinite()
    numbers = [*task.quality(vectors.detach(), labels).values(), *task.said(vectors.detach(), labels)]
    for interval in task.lead(vectors.detach(), task.usual([], labels), labels).values():
        numbers += interval.values()
    assert all(map(math.isfinite, numbers))


def test_intervals_hold_what_they_are_of() -> None:
    vectors, labels = rows_of(60, 0, 3, 20, 40)
    for one in Retrieval().intervals(vectors, labels).values():
        assert 0 <= one["low"] <= one["value"] <= one["high"] <= 1
        assert one["low"] < one["high"]


def test_a_random_order_is_the_usual_answer() -> None:
    labels = torch.stack([torch.arange(500), torch.arange(500) + 1000], 1)
    task = task_of("text_retrieval", ["match"], texts=2)
    assert task.quality(task.usual([], labels), labels)["recall_at_10"] == pytest.approx(10 / 500, abs=0.02)


def test_identities_stay_whole() -> None:
    name = "f" * 15
    assert Retrieval().encode([(name, "0" * 15)]).tolist() == [[int(name, 16), 0]]


def test_what_differs_by_rounding_is_equal() -> None:
    """Documents of the same tokens have such vectors: which comes first says nothing."""
    labels = torch.tensor([[1, 10], [2, 11]])
    vectors = torch.tensor([[[1.0, 0, 0], [1, 0, 0]], [[0, 1, 0], [1, 0, 3e-4]]])
    for rows in (vectors, vectors.flip(0)):
        assert Retrieval().quality(rows, labels)["mrr"] == pytest.approx(0.5)
