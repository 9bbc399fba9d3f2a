"""`text_embedding`: agreement with the model as given, against plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from core.spec.task import ProblemType
from core.tasks import embedding, task_of
from core.tasks import vectors as every
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


def by_definition(student: list[list[float]], teacher: list[list[float]], shorter: Sequence[int] = ()) -> float:
    """The squared distance in parts of the teacher's length; and the mean over the first dimensions of the
    KL(teacher || student) of similarities to others."""
    total = 0.0
    for i, (ours, theirs) in enumerate(zip(student, teacher, strict=True)):
        total += sum((a - b) ** 2 for a, b in zip(ours, theirs, strict=True)) / sum(b * b for b in theirs)
        for size in shorter:
            shares = []
            for vectors in ([one[:size] for one in student], teacher):
                weights = [math.exp(cosine(vectors[i], other) / 0.05) for j, other in enumerate(vectors) if j != i]
                shares.append([weight / sum(weights) for weight in weights])
            total += sum(p * math.log(p / q) for q, p in zip(*shares, strict=True)) / len(shorter)
    return total / len(student)


@pytest.mark.parametrize("shorter", [(), (2,), (2, 3)])
def test_the_loss_is_what_it_says(shorter: tuple[int, ...]) -> None:
    student, teacher = drawn(9, 5, seed=1), drawn(9, 5, seed=2)
    wanted = by_definition(student.tolist(), teacher.tolist(), shorter)
    assert float(kept(student, teacher, shorter)) == pytest.approx(wanted, rel=1e-4)
    assert float(Embedding(shorter=shorter).loss(student[:, None], teacher[:, None])) == pytest.approx(wanted, rel=1e-4)
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


def test_the_loss_of_many_rows_is_the_mean_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, given = drawn(11, 1, 6, seed=1), drawn(11, 1, 6, seed=2)
    monkeypatch.setattr(every, "PART", 5)
    parts = [float(kept(ours[i : i + 5, 0], given[i : i + 5, 0])) for i in (0, 5, 10)]
    assert float(Embedding().loss(ours, given)) == pytest.approx((5 * parts[0] + 5 * parts[1] + parts[2]) / 11)


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
