"""How far the labels of a source go with the target's: classes, several labels, numbers, words; what chance gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from core.pruning.problem import IGNORED, MultiLabel, Problem, Regression, SingleLabel, Words
from core.pruning.related import relatedness


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_answers_that_are_the_labels_are_related_entirely_and_those_that_contradict_them_not_at_all() -> None:
    labels = torch.arange(200) % 2
    sure = 20.0 * F.one_hot(labels, 2)
    assert relatedness(sure, labels, SingleLabel(), True) == pytest.approx(0.995, abs=0.002)
    assert relatedness(-sure, labels, SingleLabel(), True) == 0
    assert relatedness(-sure, labels, SingleLabel(), False) == pytest.approx(0.995, abs=0.002)  # a head of its own


def test_other_classes_can_say_as_much() -> None:
    labels = torch.arange(200) % 2
    topics = 20.0 * F.one_hot(labels * 3 + torch.arange(200) % 3, 6)  # three topics for each class
    assert relatedness(topics, labels, SingleLabel(), False) > 0.3
    assert relatedness(20.0 * F.one_hot(torch.arange(200) // 2 % 6, 6), labels, SingleLabel(), False) < 0.02


def test_chance_is_what_all_orders_of_the_rows_give_on_average() -> None:
    labels = torch.tensor([0] * 30 + [1] * 15 + [2] * 5)
    logits = draw(50, 4)
    answers, wanted = logits.softmax(1).double(), F.one_hot(labels, 3).double()
    answers, wanted = answers - answers.mean(0), wanted - wanted.mean(0)
    orders = [torch.randperm(50, generator=torch.Generator().manual_seed(i)) for i in range(2000)]
    chance = torch.stack([(answers.T @ wanted[order]).square().sum() for order in orders]).mean()
    cka = ((answers.T @ wanted).square().sum() - chance) / ((answers.T @ answers).norm() * (wanted.T @ wanted).norm())
    assert relatedness(logits, labels, SingleLabel(), False) == pytest.approx(max(0.0, float(cka)), abs=0.005)


@pytest.mark.parametrize(
    ("problem", "labels", "logits"),
    [
        (MultiLabel(), (draw(200, 3) > 0).float(), 20 * draw(200, 3)),
        (Regression(), draw(200), draw(200, 1)),
        (
            Words(("O", "B")),
            torch.where(draw(50, 4) > 0, 1, 0),
            20.0 * F.one_hot(torch.where(draw(50, 4) > 0, 1, 0), 2),
        ),
    ],
)
def test_every_problem_is_asked(problem: Problem, labels: torch.Tensor, logits: torch.Tensor) -> None:
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    assert relatedness(logits, labels, problem, True) > 0.9
    assert relatedness(logits[order], labels, problem, True) < 0.05


def test_tokens_that_are_asked_nothing_do_not_count() -> None:
    labels = torch.tensor([[0, 1, IGNORED], [1, IGNORED, IGNORED], [0, 1, 0]] * 20)
    logits = torch.full((60, 5, 2), 7.0)  # wider than the labels, as when other rows are longer
    logits[:, :3][labels != IGNORED] = 20.0 * F.one_hot(labels[labels != IGNORED], 2)
    assert relatedness(logits, labels, Words(("O", "B")), True) > 0.95


def test_answers_that_are_always_the_same_say_nothing() -> None:
    labels = torch.arange(10) % 2
    assert relatedness(torch.zeros(10, 2), labels, SingleLabel(), False) == 0
    assert relatedness(torch.zeros(1, 2), labels[:1], SingleLabel(), False) == 0
