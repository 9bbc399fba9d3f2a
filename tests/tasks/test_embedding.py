"""`text_embedding`: agreement with the model as given, against plain Python."""

from __future__ import annotations

import math

import pytest
import torch

from core.spec.task import ProblemType
from core.tasks import embedding, task_of
from core.tasks.embedding import Embedding, same_neighbours
from core.tasks.vectors import kept, unit
from tests.tasks.vectors import cosine, drawn


@pytest.mark.parametrize("rows", [2, 8, 11, 40])
def test_metrics_are_those_of_a_search(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, given = drawn(rows, 1, 6, seed=1), drawn(rows, 1, 4, seed=2)
    nearest = []
    for vectors in (ours[:, 0].tolist(), given[:, 0].tolist()):
        near = []
        for i, one in enumerate(vectors):
            others = sorted((j for j in range(rows) if j != i), key=lambda j: -cosine(one, vectors[j]))
            near.append({*others[:10]})
        nearest.append(near)
    overlap = [len(a & b) / min(10, rows - 1) for a, b in zip(*nearest, strict=True)]
    assert same_neighbours(unit(ours[:, 0]), unit(given[:, 0])).tolist() == pytest.approx(overlap)
    monkeypatch.setattr(embedding, "PART", 7)
    assert same_neighbours(unit(ours[:, 0]), unit(given[:, 0])).tolist() == pytest.approx(overlap)
    same = drawn(rows, 1, 6, seed=3)
    found = Embedding().quality(ours, same)
    pairs = zip(ours[:, 0].tolist(), same[:, 0].tolist(), strict=True)
    assert found["cosine"] == pytest.approx(sum(cosine(a, b) for a, b in pairs) / rows)
    assert Embedding().quality(ours, ours) == pytest.approx({"cosine": 1.0, "same_neighbours": 1.0})
    assert Embedding().quality(3 * ours, ours) == pytest.approx({"cosine": 1.0, "same_neighbours": 1.0})


def by_definition(student: list[list[float]], teacher: list[list[float]]) -> float:
    """The squared distance in parts of the teacher's length."""
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        total += sum((a - b) ** 2 for a, b in zip(ours, theirs, strict=True)) / sum(b * b for b in theirs)
    return total / len(student)


def test_the_loss_is_what_it_says() -> None:
    student, teacher = drawn(9, 5, seed=1), drawn(9, 5, seed=2)
    wanted = by_definition(student.tolist(), teacher.tolist())
    assert float(kept(student, teacher)) == pytest.approx(wanted, rel=1e-4)
    assert float(Embedding().loss(student[:, None], teacher[:, None])) == pytest.approx(wanted, rel=1e-4)
    assert float(kept(teacher, teacher)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("problem", ["text_retrieval", "text_similarity"])
def test_the_first_dimensions_learn_as_the_whole_does(problem: ProblemType) -> None:
    vectors = drawn(6, 2, 5)
    labels = torch.arange(12).reshape(6, 2) if problem == "text_retrieval" else torch.arange(6.0)
    whole, first = task_of(problem, [], texts=2), task_of(problem, [], texts=2, shorter=(3,))
    wanted = (float(whole.loss(vectors, labels)) + float(whole.loss(vectors[..., :3], labels))) / 2
    assert float(first.loss(vectors, labels)) == pytest.approx(wanted)


@pytest.mark.parametrize("problem", ["text_embedding", "text_retrieval", "text_similarity"])
def test_distillation_is_zero_at_the_teacher_and_nowhere_else(problem: str) -> None:
    task = task_of(problem, [], texts=2)  # type: ignore[arg-type]
    teacher = drawn(6, 2, 5)
    assert float(task.distillation(teacher, teacher, torch.zeros(6))) == pytest.approx(0, abs=1e-6)
    assert float(task.distillation(teacher + 0.1 * drawn(6, 2, 5, seed=1), teacher, torch.zeros(6))) > 0.001
    assert float(task.distillation(2 * teacher, teacher, torch.zeros(6))) > 0.5  # of lengths, too


@pytest.mark.parametrize("rows", [1, 2, 12])
@pytest.mark.parametrize("fill", [0.0, 1.0, 1e-30])
@pytest.mark.parametrize("given", [0.0, 1.0])
def test_nothing_is_ever_nan(rows: int, fill: float, given: float) -> None:
    vectors, labels = torch.full((rows, 1, 4), fill, requires_grad=True), torch.full((rows, 1, 4), given)
    loss = Embedding().loss(vectors, labels)
    loss.backward()
    assert loss.isfinite() and vectors.grad is not None and vectors.grad.isfinite().all()
    numbers = [*Embedding().quality(vectors.detach(), labels).values(), *Embedding().said(vectors.detach(), labels)]
    numbers += [value for one in Embedding().intervals(vectors.detach(), labels).values() for value in one.values()]
    assert all(map(math.isfinite, numbers))


def test_labels_are_what_the_model_as_given_said() -> None:
    heard = drawn(3, 1, 4)
    assert torch.equal(Embedding().encode(heard.tolist()), heard)
    assert Embedding().encode([None, None]).shape == (2, 1, 0)
    assert Embedding().said(heard, heard) == pytest.approx([1, 1, 1])
    assert (
        abs(Embedding().quality(Embedding().usual([], drawn(400, 1, 64)), drawn(400, 1, 64, seed=1))["cosine"]) < 0.05
    )
