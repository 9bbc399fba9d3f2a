"""What a task is: labels as tensors, their loss, distillation, what a head answers, and how good answers are.

Each task is a file beside this one. Label tensors hold -1 (a number: NaN) where a row has no label.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.measures.intervals import Interval, Measure, bootstrap, lead, value_of
from core.rows.labels import Label

TEMPERATURE = 2.0  # of distillation (Hinton et al. 2015; CoFi uses the same)
IGNORED = -100  # in place of a label: a token that is asked nothing


@dataclass(frozen=True)
class Task(ABC):
    """What the outputs of a head stand for, and all that follows from it."""

    labels: tuple[str, ...] = ()
    texts: int = 1  # of a row, where they are encoded apart
    of_words: ClassVar[bool] = False
    apart_texts: ClassVar[bool] = False  # the texts of a row are encoded each for itself
    self_taught: ClassVar[bool] = False  # labels are what the model as given answers
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"  # of transformers: loads a model of this task
    usual_answer: ClassVar[str] = "always the commonest answer"  # what `usual` gives, in words

    @classmethod
    def of(cls, labels: Sequence[str], known: Sequence[Label] = ()) -> Self:
        """Make it with what its outputs stand for; `known`: labels of the training rows."""
        return cls(tuple(labels))

    def answers(self, head: nn.Module, features: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """What `head` says of the body's features (B, ...) of a batch `inputs`: logits, in this task's own shape."""
        return self.shaped(head(features))

    def shaped(self, answers: Tensor) -> Tensor:
        """Put what a model says of a batch, a row of tokens each, into this task's own shape."""
        return answers

    @abstractmethod
    def encode(self, labels: Sequence[Any], encoded: Any = None) -> Tensor:
        """Labels of rows, as a data set has them, as a tensor; `encoded` is what the tokenizer made of the rows."""

    def truth(self, labels: Sequence[Any], encoded: Any = None) -> Tensor:
        """As `encode`, for metrics: numbers as they were given."""
        return self.encode(labels, encoded)

    @abstractmethod
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of the labels, a scalar."""

    @abstractmethod
    def distillation(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """How far the student's logits are from the teacher's, a scalar; `labels` say what is asked, no more."""

    def worth(self, logits: Tensor, labels: Tensor, balanced: bool) -> Tensor:
        """How good the answer to each row is, (N,), at most 1 and smooth; `balanced`: classes shall count alike."""
        raise NotImplementedError

    def strata(self, labels: Tensor) -> Tensor:
        """The group of each row, (N,), counted from 0: parts of the rows should hold them in proportion."""
        raise NotImplementedError

    @abstractmethod
    def said(self, logits: Tensor, labels: Tensor) -> list[Any]:
        """What is predicted of each row, as a data set would have it."""

    @abstractmethod
    def usual(self, known: Sequence[Any], labels: Tensor) -> Tensor:
        """Logits that answer each of the rows whose `labels` those are with what is commonest of the `known` ones."""

    def measure(self, logits: Tensor, labels: Tensor) -> Measure:
        """Its metrics, for any weights of the rows."""
        raise NotImplementedError

    def quality(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """Each metric."""
        return value_of(self.measure(logits, labels), len(labels))

    def intervals(self, logits: Tensor, labels: Tensor) -> dict[str, Interval]:
        """Each metric as {value, low, high}."""
        return bootstrap(self.measure(logits, labels), len(labels))

    def apart(
        self, logits: Tensor, others: Tensor, labels: Tensor, of_others: Tensor | None = None
    ) -> dict[str, Interval]:
        """Each metric less that of other answers to the same rows, as {value, low, high}.

        `of_others`: the labels by the tokens of the others, where these are not the same.
        """
        theirs = labels if of_others is None else of_others
        return lead(self.measure(logits, labels), self.measure(others, theirs), len(labels))

    def recalls(self, logits: Tensor, labels: Tensor) -> dict[str, tuple[int, float]]:
        """Of each label that occurs: how many rows have it, and which part of them it is said of."""
        return {}

    def lead(self, logits: Tensor, constant: Tensor, labels: Tensor) -> dict[str, Interval]:
        """As `apart`, from logits that give one answer to all rows."""
        return self.apart(logits, constant, labels)

    def outputs(self, logits: Tensor) -> Tensor:
        """Give what `asked` logits say as numbers, (M, K): probabilities, say."""
        raise NotImplementedError

    def indicators(self, labels: Tensor, classes: int) -> Tensor:
        """Give labels in numbers, (M, C): 1 for what applies, say; `classes`: how many there are at least."""
        raise NotImplementedError

    def asked(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The logits that are answers, (M, C)."""
        return logits

    def unscaled(self) -> Task:
        """Give the task in its labels' own unit, which the finished model answers in."""
        return self

    @property
    def scale(self) -> float:
        """What differences between the finished model's logits are measured in."""
        return 1.0


def one_of(labels: Sequence[str], known: Iterable[str]) -> Tensor:
    """Logits, (C,), for the label that is commonest."""
    commonest = max(labels, key=Counter(known).__getitem__)
    return torch.tensor([float(label == commonest) for label in labels])


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Labels (M,) as indicators, (M, C); C is `classes`, or as many as occur."""
    return F.one_hot(labels, max(classes, int(labels.max()) + 1))


def recalls(names: Sequence[str], said: Tensor, true: Tensor) -> dict[str, tuple[int, float]]:
    """See `Task.recalls`; of indicators, (N, K) each."""
    rows, found = true.sum(0).tolist(), (said.bool() & true.bool()).sum(0).tolist()
    return {name: (have, got / have) for name, have, got in zip(names, rows, found, strict=True) if have}


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """T^2 KL(teacher || student) at temperature T, mean over rows, 0 of none; logits (B, C)."""
    total = F.kl_div(
        F.log_softmax(student / TEMPERATURE, -1),
        F.log_softmax(teacher / TEMPERATURE, -1),
        reduction="sum",
        log_target=True,
    )
    return TEMPERATURE**2 * (total / max(1, len(student)))


def brier(logits: Tensor, labels: Tensor) -> Tensor:
    """1 minus half the Brier score of each row, (N,): for sure predictions the accuracy, but smoother."""
    return 1 - (logits.softmax(1) - F.one_hot(labels, logits.shape[1])).square().sum(1) / 2


def rarest(held: Tensor) -> Tensor:
    """The rarest of the labels that each row holds, (N,); `held` is (N, K). K for a row that holds none."""
    count = held.sum(0).expand_as(held).where(held, len(held) + 1)
    return F.pad(count, (0, 1), value=len(held)).argmin(1)


def plain(number: float) -> float:
    """As many digits as give a float32 back."""
    return float(f"{number:.9g}")
