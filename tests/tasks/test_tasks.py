"""Each task: its losses teach, its metrics are those of the textbook."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from core.measures.intervals import bootstrap, value_of
from core.measures.labels import of_labels
from core.measures.numbers import of_numbers
from core.measures.tags import entities, of_tags
from core.tasks import Task, task_of
from core.tasks.classes import SingleLabel
from core.tasks.labels import MultiLabel
from core.tasks.number import Regression
from core.tasks.tags import Tags
from core.tasks.task import IGNORED

# --- losses ---------------------------------------------------------------------------------------------------

CASES: list[tuple[Task, tuple[int, ...], torch.Tensor]] = [
    (SingleLabel(("a", "b", "c")), (4, 3), torch.tensor([0, 2, 1, 1])),
    (MultiLabel(("a", "b", "c")), (4, 3), torch.tensor([[0.0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, 1]])),
    (Regression(("y",)), (4, 1), torch.tensor([0.3, -1.0, 2.0, 0.0])),
    (Tags(("B-x", "O")), (2, 5, 2), torch.tensor([[IGNORED, 0, IGNORED, 1, IGNORED], [IGNORED, 1, 1, -1, IGNORED]])),
]


@pytest.mark.parametrize(("problem", "shape", "labels"), CASES, ids=lambda value: type(value).__name__)
def test_labels_and_teacher_teach_each_where_the_other_is_silent(
    problem: Task, shape: tuple[int, ...], labels: torch.Tensor
) -> None:
    """Over a single logit a KL divergence would be constant: both losses must have a gradient for every problem."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, *shape, generator=generator)
    student.requires_grad_()
    for loss in (problem.loss(student, labels), problem.distillation(student, teacher, labels)):
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss > 0 and (problem.asked(gradient, labels) != 0).any()
        if problem.of_words:
            assert gradient[labels == IGNORED].abs().sum() == 0  # sub-words, special tokens and padding say nothing
    assert float(problem.distillation(teacher, teacher, labels)) == pytest.approx(0, abs=1e-6)


def test_the_distillation_of_several_labels_is_that_of_two_classes_each() -> None:
    student, teacher = torch.randn(2, 6, 1)
    two = [torch.cat([torch.zeros_like(logits), logits], 1) for logits in (student, teacher)]
    one = float(MultiLabel(("a",)).distillation(student, teacher, student))
    assert one == pytest.approx(float(SingleLabel().distillation(*two, student)), rel=1e-4)


def test_a_batch_without_a_word_that_is_read_teaches_nothing() -> None:
    student, teacher = torch.randn(2, 1, 3, 2, generator=torch.Generator().manual_seed(0))
    student.requires_grad_()
    tags, labels = Tags(("B-x", "O")), torch.full((1, 3), IGNORED)
    for loss in (tags.loss(student, labels), tags.distillation(student, teacher, labels)):
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss.detach() == 0 and not gradient.any()


def test_words_are_asked_alike_however_wide_the_batch_is() -> None:
    problem, _, labels = CASES[3]
    logits = torch.randn(2, 5, 2)
    wider = torch.cat([logits, torch.randn(2, 3, 2)], 1)
    assert problem.loss(wider, labels) == problem.loss(logits, labels)
    assert problem.said(wider, labels) == problem.said(logits, labels)
    longer = torch.nn.functional.pad(labels, (0, 4), value=IGNORED)
    assert problem.loss(logits, longer) == problem.loss(logits, labels)
    assert [len(row) for row in problem.said(logits, longer)] == [2, 3]


@pytest.mark.parametrize(("problem", "shape", "labels"), CASES, ids=lambda value: type(value).__name__)
def test_worth_is_at_most_1_and_highest_for_what_is_right(
    problem: Task, shape: tuple[int, ...], labels: torch.Tensor
) -> None:
    labels = (
        labels.clamp(min=0) if labels.dtype == torch.long and not problem.of_words else labels.where(labels != -1, 0)
    )
    sure = {
        "SingleLabel": lambda: 50 * torch.nn.functional.one_hot(labels.clamp(min=0), 3).float(),
        "MultiLabel": lambda: 100 * (labels - 0.5),
        "Regression": lambda: labels[:, None],
        "Tags": lambda: 50 * torch.nn.functional.one_hot(labels.clamp(min=0), 2).float(),
    }[type(problem).__name__]()
    right, guessed = (problem.worth(logits, labels, False) for logits in (sure, torch.zeros(shape)))
    assert right.shape == (len(labels),) and right.tolist() == pytest.approx([1.0] * len(labels))
    assert guessed.mean() < 1


# --- metrics --------------------------------------------------------------------------------------------------


def test_metrics_of_several_labels() -> None:
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], bool)
    said = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], bool)
    found = value_of(of_labels(said, truth), 4)
    assert found == pytest.approx({"micro_f1": 6 / 8, "macro_f1": (1 + 1 / 2) / 2, "subset_accuracy": 1 / 2})


def test_metrics_of_numbers_with_ties() -> None:
    truth, said = np.array([1.0, 2, 2, 4]), np.array([1.0, 3, 2, 3])
    found = value_of(of_numbers(said, truth), 4)
    assert found["pearson"] == pytest.approx(np.corrcoef(said, truth)[0, 1])
    assert found["spearman"] == pytest.approx(np.corrcoef([1, 3.5, 2, 3.5], [1, 2.5, 2.5, 4])[0, 1])
    assert found["rmse"] == pytest.approx(np.sqrt(2 / 4))
    assert found["r2"] == pytest.approx(1 - 2 / (4 * truth.var()))
    constant = value_of(of_numbers(np.ones(4), truth), 4)
    assert (constant["pearson"], constant["spearman"]) == (0, 0)
    rounding = value_of(of_numbers(5 + 1e-7 * said, truth), 4)
    assert (rounding["pearson"], rounding["spearman"]) == (0, 0)
    assert rounding["rmse"] == pytest.approx(np.sqrt(((5 - truth) ** 2).mean()))
    shifted = value_of(of_numbers(2000 + 0.1 * said, 2000 + truth), 4)
    assert shifted["pearson"] == pytest.approx(found["pearson"])


@pytest.mark.parametrize("unit", [3.7, 3.7e-9])
def test_resamples_of_one_and_the_same_number_have_no_r2(unit: float) -> None:
    """Of 25 rows two are others: some resamples have neither."""
    truth = np.full(25, 3.7)
    truth[[0, 7]] = 1.2, 5.1
    truth *= unit
    found = bootstrap(of_numbers(truth + 0.1 * unit, truth), 25)["r2"]
    assert -1e3 < found["low"] <= found["value"] <= found["high"] < 1


def test_a_weighted_row_counts_as_often_as_its_weight_says() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.integers(0, 5, 30).astype(float), rng.integers(0, 5, 30).astype(float)
    weights = rng.integers(0, 4, (1, 30))
    once = of_numbers(said, truth)(weights.astype(float))
    again = value_of(of_numbers(np.repeat(said, weights[0]), np.repeat(truth, weights[0])), int(weights.sum()))
    assert {name: float(value[0]) for name, value in once.items()} == pytest.approx(again)


def test_entities_are_those_of_conlleval() -> None:
    tags = ["B-PER", "I-PER", "O", "I-LOC", "B-LOC", "I-ORG", "B-ORG"]
    assert entities(tags) == {("PER", 0, 2), ("LOC", 3, 4), ("LOC", 4, 5), ("ORG", 5, 6), ("ORG", 6, 7)}
    truth = [["B-PER", "I-PER", "O"], ["O", "B-LOC", "O"]]
    said = [["B-PER", "O", "O"], ["O", "B-LOC", "B-LOC"]]
    found = value_of(of_tags(said, truth, mark=True), 2)
    assert found == pytest.approx({"entity_f1": 2 * 1 / (3 + 2), "token_accuracy": 4 / 6})
    assert set(value_of(of_tags(said, truth, mark=False), 2)) == {"token_accuracy"}


@pytest.mark.parametrize(
    "tags",
    [
        ["S-PER", "S-PER", "O", "B-LOC", "I-LOC", "E-LOC", "B-LOC", "E-LOC", "O"],  # BIOES
        ["U-PER", "U-PER", "O", "B-LOC", "I-LOC", "L-LOC", "B-LOC", "L-LOC", "O"],  # BILOU
        ["B-PER", "B-PER", "O", "B-LOC", "I-LOC", "I-LOC", "B-LOC", "I-LOC", "O"],  # IOB2
        ["I-PER", "B-PER", "O", "I-LOC", "I-LOC", "I-LOC", "B-LOC", "I-LOC", "O"],  # IOB1
    ],
)
def test_every_scheme_marks_the_same_entities(tags: list[str]) -> None:
    assert entities(tags) == {("PER", 0, 1), ("PER", 1, 2), ("LOC", 3, 6), ("LOC", 6, 8)}


def test_parts_of_an_entity_that_stand_alone_are_entities() -> None:
    assert entities(["E-PER", "E-PER", "O", "I-LOC", "S-LOC"]) == {
        *(("PER", 0, 1), ("PER", 1, 2)),
        *(("LOC", 3, 4), ("LOC", 4, 5)),
    }


def test_bootstrap_covers_a_correlation_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        truth = rng.standard_normal(150)
        found = bootstrap(of_numbers(0.8 * truth + 0.6 * rng.standard_normal(150), truth), 150)["pearson"]
        covered += found["low"] <= 0.8 <= found["high"]
    assert covered >= 52


def test_the_commonest_answer() -> None:
    rows = torch.zeros(3)
    one = task_of("single_label_classification", ["a", "b", "c"])
    assert one.said(one.usual(["b", "a", "b"], rows), rows) == ["b"] * 3
    several = task_of("multi_label_classification", ["a", "b", "c"])
    assert several.said(several.usual([("a", "b"), ("a",), ("a", "c")], rows), rows) == [["a"]] * 3
    number = task_of("regression", ["y"])
    found = number.quality(number.usual([0.1, 0.2, 0.6], rows), number.truth([0.1, 0.7, 0.2]))
    assert number.said(number.usual([0.1, 0.2, 0.6], rows), rows) == [0.3] * 3 and found["pearson"] == 0
    words, asked = task_of("token_classification", ["B-x", "O"]), torch.tensor([[IGNORED, 0, 1], [0, 1, IGNORED]])
    assert words.said(words.usual([("O", "B-x"), ("O",)], asked), asked) == [["O", "O"]] * 2


def test_a_number_of_any_unit_is_learned_alike() -> None:
    for unit, offset in ((1.0, 0.0), (1e-3, 0.01), (1e4, -2e5)):
        values = [offset + unit * value for value in (1.0, 2.0, 4.0)]
        problem = task_of("regression", ["y"], values)
        assert isinstance(problem, Regression)
        found = problem.encode(values)
        assert float(found.mean()) == pytest.approx(0, abs=1e-3) and float(found.std(correction=0)) == pytest.approx(
            1, rel=1e-3
        )
        assert problem.truth(values).tolist() == values  # in double: what is measured against


def test_tags_by_other_tokens_are_compared_by_row() -> None:
    """Of one model a word is one token, of the other three; both are right on each row."""
    problem = Tags(("B-x", "O"))
    short, long = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[0, IGNORED, IGNORED, 1], [1, 0, IGNORED, IGNORED]])

    def right(labels: Tensor) -> Tensor:
        return 9 * torch.nn.functional.one_hot(labels.clamp(min=0), 2).float()

    assert problem.apart(right(short), right(long), short, long)["token_accuracy"]["value"] == 0
    assert problem.apart(right(short), right(long), short)["token_accuracy"]["value"] > 0  # by tokens that are no words
