"""How far the labels of a source go with the target's: classes, several labels, numbers, words; what chance gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from core.pruning.training.batches import Rows
from core.pruning.trials.relatedness import WELL_RELATED, against_own, relatedness
from core.pruning.trials.trials import held_out
from core.tasks import Task
from core.tasks.classes import SingleLabel
from core.tasks.labels import MultiLabel
from core.tasks.number import Regression
from core.tasks.tags import Tags
from core.tasks.task import IGNORED


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_answers_that_are_the_labels_are_related_entirely_and_those_that_contradict_them_not_at_all() -> None:
    labels = torch.arange(200) % 2
    sure = 20.0 * F.one_hot(labels, 2)
    assert relatedness(sure, labels, SingleLabel(), True) == pytest.approx(1.0)
    assert relatedness(-sure, labels, SingleLabel(), True) == 0
    assert relatedness(-sure, labels, SingleLabel(), False) == pytest.approx(1.0)  # a head of its own


@pytest.mark.parametrize("topics", [6, 20, 150])
def test_other_classes_can_say_as_much_however_many_they_are(topics: int) -> None:
    labels = torch.arange(300) % 2
    finer = labels * (topics // 2) + torch.arange(300) // 2 % (topics // 2)  # each topic is of one class
    assert relatedness(20.0 * F.one_hot(finer, topics), labels, SingleLabel(), False) > 0.9
    assert relatedness(20.0 * F.one_hot(labels, 2), finer, SingleLabel(), False) > 0.9
    assert relatedness(20.0 * F.one_hot(torch.arange(300) // 2 % topics, topics), labels, SingleLabel(), False) == 0


def test_what_agrees_in_part_counts_in_part() -> None:
    labels = torch.arange(1000) % 2
    right = torch.arange(1000) // 2 % 10 < 8
    said = 20.0 * F.one_hot(torch.where(right, labels, 1 - labels), 2)
    assert relatedness(said, labels, SingleLabel(), True) == pytest.approx(0.36, abs=0.005)  # 80 % right: r is 0.6
    swapped = torch.tensor([0, 1, 2, 1] * 50)  # of three classes the outer two are taken for each other
    assert relatedness(20.0 * F.one_hot(2 - swapped, 3), swapped, SingleLabel(), True) == pytest.approx(0.04, abs=0.01)


@pytest.mark.parametrize("same", [True, False])
def test_chance_is_nothing(same: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 30 + [1] * 15 + [2] * 5)
    found = [
        relatedness(torch.randn(50, 3 if same else 20, generator=generator), labels, SingleLabel(), same)
        for _ in range(20)
    ]
    assert sum(value == 0 for value in found) >= 18


@pytest.mark.parametrize(
    ("problem", "labels", "logits"),
    [
        (MultiLabel(), (draw(200, 3) > 0).float(), 20 * draw(200, 3)),
        (Regression(), draw(200), draw(200, 1)),
        (
            Tags(("O", "B")),
            torch.where(draw(50, 4) > 0, 1, 0),
            20.0 * F.one_hot(torch.where(draw(50, 4) > 0, 1, 0), 2),
        ),
    ],
)
def test_every_problem_is_asked(problem: Task, labels: torch.Tensor, logits: torch.Tensor) -> None:
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    assert relatedness(logits, labels, problem, True) > 0.9
    assert relatedness(logits[order], labels, problem, True) < 0.05
    assert relatedness(logits, labels, problem, False) > 0.7


def test_tokens_that_are_asked_nothing_do_not_count() -> None:
    labels = torch.tensor([[0, 1, IGNORED], [1, IGNORED, IGNORED], [0, 1, 0]] * 20)
    logits = torch.full((60, 5, 2), 7.0)  # wider than the labels, as when other rows are longer
    logits[:, :3][labels != IGNORED] = 20.0 * F.one_hot(labels[labels != IGNORED], 2)
    assert relatedness(logits, labels, Tags(("O", "B")), True) > 0.95


def test_answers_that_are_always_the_same_say_nothing() -> None:
    labels = torch.arange(10) % 2
    assert relatedness(torch.zeros(10, 2), labels, SingleLabel(), False) == 0
    assert relatedness(torch.zeros(1, 2), labels[:1], SingleLabel(), False) == 0


def test_a_task_that_is_learned_to_a_part_is_asked_by_its_own_rows() -> None:
    assert against_own(0.05, 0.1) == pytest.approx(0.15)
    assert against_own(0.05, 0.6) == 0.05 and against_own(0.5, 0.2) == 0.5
    assert against_own(0.2, 0.1) == pytest.approx(WELL_RELATED)
    assert against_own(0.04, 0.0) == 0.04 and against_own(0.0, 0.2) == 0.0


def test_no_view_of_a_row_that_is_held_out_stays() -> None:
    rows = Rows({}, torch.arange(40).repeat_interleave(3), SingleLabel(), None, views=3)  # type: ignore[arg-type]
    own, rest = held_out(rows, torch.Generator().manual_seed(0))
    assert len(own) == 8 and len(rest) == 96
    assert {*own.labels.tolist()} | {*rest.labels.tolist()} == {*range(40)}
    assert not {*own.labels.tolist()} & {*rest.labels.tolist()}
