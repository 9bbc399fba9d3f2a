"""What a model is asked for: one class, several labels, a number, or a tag for each word.

For each: what labels are as a tensor, their loss, distillation, how good answers are. Label tensors hold -1 (a number:
NaN) where a row has no label.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean, pstdev
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from core.pruning.metrics import (
    Interval,
    Measure,
    bootstrap,
    confusion,
    label_intervals,
    lead,
    lead_over_one,
    of_classes,
    of_labels,
    of_numbers,
    of_tags,
    scores,
    value_of,
    wider,
    with_intervals,
)
from core.spec.labels import STRATA, Label, no_entity_tag, numbers
from core.spec.task import ProblemType

TEMPERATURE = 2.0  # of distillation (Hinton et al. 2015; CoFi uses the same)
IGNORED = -100  # in place of a label: a token that is asked nothing


@dataclass(frozen=True)
class Problem(ABC):
    """What the outputs of a head stand for, and all that follows from it."""

    labels: tuple[str, ...] = ()
    of_words: ClassVar[bool] = False

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

    @abstractmethod
    def worth(self, logits: Tensor, labels: Tensor, balanced: bool) -> Tensor:
        """How good the answer to each row is, (N,), at most 1 and smooth; `balanced`: classes shall count alike."""

    @abstractmethod
    def strata(self, labels: Tensor) -> Tensor:
        """The group of each row, (N,), counted from 0: parts of the rows should hold them in proportion."""

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

    def apart(self, logits: Tensor, others: Tensor, labels: Tensor) -> dict[str, Interval]:
        """Each metric less that of other answers to the same rows, as {value, low, high}."""
        return lead(self.measure(logits, labels), self.measure(others, labels), len(labels))

    def lead(self, logits: Tensor, constant: Tensor, labels: Tensor) -> dict[str, Interval]:
        """As `apart`, from logits that give one answer to all rows."""
        return self.apart(logits, constant, labels)

    def asked(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The logits that are answers, (M, C)."""
        return logits

    @property
    def scale(self) -> float:
        """What differences between the finished model's logits are measured in."""
        return 1.0


class SingleLabel(Problem):
    """One of several classes. Logits are (N, C), labels (N,)."""

    def encode(self, labels: Sequence[Any], encoded: Any = None) -> Tensor:
        number = {label: i for i, label in enumerate(self.labels)}
        return torch.tensor([number.get(label, -1) for label in labels])

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, ignore_index=-1)

    def distillation(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return distillation(student, teacher)

    def worth(self, logits: Tensor, labels: Tensor, balanced: bool) -> Tensor:
        value = brier(logits, labels)
        if balanced:
            counts = torch.bincount(labels, minlength=logits.shape[1])
            value = value * len(labels) / ((counts > 0).sum() * counts[labels])
        return value

    def strata(self, labels: Tensor) -> Tensor:
        return labels

    def measure(self, logits: Tensor, labels: Tensor) -> Measure:
        return of_classes(logits.argmax(1).numpy(), labels.numpy(), logits.shape[1])

    def quality(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        counts = confusion(logits.argmax(1), labels, logits.shape[1])
        return {name: float(value) for name, value in scores(counts).items()}

    def intervals(self, logits: Tensor, labels: Tensor) -> dict[str, Interval]:
        return with_intervals(logits, labels)

    def lead(self, logits: Tensor, constant: Tensor, labels: Tensor) -> dict[str, Interval]:
        return lead_over_one(logits, labels, int(constant[0].argmax()))

    def said(self, logits: Tensor, labels: Tensor) -> list[Any]:
        return [self.labels[i] for i in logits.argmax(1).tolist()]

    def usual(self, known: Sequence[Any], labels: Tensor) -> Tensor:
        return one_of(self.labels, known).expand(len(labels), -1)


class MultiLabel(Problem):
    """Any number of the labels, each for itself. Logits and labels (0 or 1) are (N, K)."""

    def encode(self, labels: Sequence[Any], encoded: Any = None) -> Tensor:
        return torch.tensor(
            [[-1.0 if row is None else float(name in row) for name in self.labels] for row in labels]
        ).reshape(len(labels), len(self.labels))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross entropy, mean over labels."""
        return F.binary_cross_entropy_with_logits(logits, labels)

    def distillation(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """T^2 KL between Bernoulli distributions at temperature T, mean over rows and labels."""
        wanted = (teacher / TEMPERATURE).sigmoid()
        entropy = F.binary_cross_entropy_with_logits(teacher / TEMPERATURE, wanted)
        return TEMPERATURE**2 * (F.binary_cross_entropy_with_logits(student / TEMPERATURE, wanted) - entropy)

    def worth(self, logits: Tensor, labels: Tensor, balanced: bool) -> Tensor:
        """1 minus the Brier score, mean over labels (as of two classes each)."""
        return 1 - (logits.sigmoid() - labels).square().mean(1)

    def strata(self, labels: Tensor) -> Tensor:
        return rarest(labels > 0)

    def measure(self, logits: Tensor, labels: Tensor) -> Measure:
        return of_labels((logits > 0).numpy(), (labels > 0).numpy())

    def intervals(self, logits: Tensor, labels: Tensor) -> dict[str, Interval]:
        each = label_intervals((logits > 0).numpy(), (labels > 0).numpy())
        return wider(super().intervals(logits, labels), each)

    def said(self, logits: Tensor, labels: Tensor) -> list[Any]:
        return [[self.labels[i] for i in row.nonzero().flatten().tolist()] for row in logits > 0]

    def usual(self, known: Sequence[Any], labels: Tensor) -> Tensor:
        """Each label's commoner answer."""
        return (self.encode(known).mean(0) - 0.5).expand(len(labels), -1)


@dataclass(frozen=True)
class Regression(Problem):
    """A number. Logits are (N, 1), labels (N,): (number - mean) / deviation, so that any unit trains alike.

    The last Linear takes mean and deviation in once all is trained (`Network.rescale`).
    """

    mean: float = 0.0
    deviation: float = 1.0

    def encode(self, labels: Sequence[Any], encoded: Any = None) -> Tensor:
        values = [float("nan") if label is None else (label - self.mean) / self.deviation for label in labels]
        return torch.tensor(values, dtype=torch.float32)

    def truth(self, labels: Sequence[Any], encoded: Any = None) -> Tensor:
        return torch.tensor(labels, dtype=torch.float64)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean square error."""
        return F.mse_loss(logits.squeeze(1), labels)

    def distillation(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Mean square distance: a KL divergence over one logit would be constant, and teach nothing."""
        return F.mse_loss(student, teacher)

    def worth(self, logits: Tensor, labels: Tensor, balanced: bool) -> Tensor:
        """1 minus the square error of each row, as a share of the labels' variance: its mean is R2."""
        return 1 - (logits.squeeze(1) - labels).square()

    def strata(self, labels: Tensor) -> Tensor:
        """Tenths by rank."""
        return labels.argsort(stable=True).argsort(stable=True) * STRATA // len(labels)

    def measure(self, logits: Tensor, labels: Tensor) -> Measure:
        return of_numbers(logits.squeeze(1).double().numpy(), labels.double().numpy())

    def quality(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """The error in the labels' own unit."""
        found = super().quality(logits, labels)
        return found | {"rmse": found["rmse"] * self.deviation}

    def said(self, logits: Tensor, labels: Tensor) -> list[Any]:
        return [plain(value) for value in logits.squeeze(1).tolist()]

    def usual(self, known: Sequence[Any], labels: Tensor) -> Tensor:
        """The mean, in the labels' own unit."""
        return torch.full((len(labels), 1), fmean(known), dtype=torch.float64)

    @property
    def scale(self) -> float:
        """Standard deviation of the training labels."""
        return self.deviation


class Words(Problem):
    """A tag for each word, said by its first token. Logits are (N, T, C), labels (N, T): IGNORED for other tokens."""

    of_words: ClassVar[bool] = True

    def encode(self, labels: Sequence[Any], encoded: Any = None) -> Tensor:
        number = {tag: i for i, tag in enumerate(self.labels)}
        rows = []
        for i, tags in enumerate(labels):
            words = encoded.word_ids(i)
            first = [word is not None and word != before for before, word in zip([None, *words], words, strict=False)]
            rows.append(
                torch.tensor(
                    [
                        (-1 if tags is None else number.get(tags[word], -1)) if begins else IGNORED
                        for word, begins in zip(words, first, strict=True)
                    ]
                )
            )
        return pad_sequence(rows, batch_first=True, padding_value=IGNORED)

    def asked(self, logits: Tensor, labels: Tensor) -> Tensor:
        width = min(logits.shape[1], labels.shape[1])  # each is as wide as the rows that it was made with
        return logits[:, :width][labels[:, :width] != IGNORED]

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy, mean over words."""
        wanted = labels[labels != IGNORED]
        total = F.cross_entropy(self.asked(logits, labels), wanted, ignore_index=-1, reduction="sum")
        return total / max(1, len(wanted))

    def distillation(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """As of classes, mean over words."""
        return distillation(self.asked(student, labels), self.asked(teacher, labels))

    def worth(self, logits: Tensor, labels: Tensor, balanced: bool) -> Tensor:
        """1 minus half the Brier score, mean over the words of each row."""
        each = brier(self.asked(logits, labels), labels[labels != IGNORED])
        rows = (labels != IGNORED).nonzero()[:, 0]
        total = torch.zeros(len(labels)).index_add(0, rows, each)
        return total / torch.bincount(rows, minlength=len(labels)).clamp(min=1)

    def strata(self, labels: Tensor) -> Tensor:
        return rarest(torch.stack([(labels == i).any(1) for i in range(len(self.labels))], 1))

    def measure(self, logits: Tensor, labels: Tensor) -> Measure:
        true = [[self.labels[i] for i in row[row != IGNORED].tolist()] for row in labels]
        return of_tags(self.said(logits, labels), true, not no_entity_tag(self.labels))

    def said(self, logits: Tensor, labels: Tensor) -> list[Any]:
        """Tags of the words that the model reads: those beyond its length have none."""
        width = min(logits.shape[1], labels.shape[1])
        best, asked = logits[:, :width].argmax(-1), labels[:, :width] != IGNORED
        return [[self.labels[i] for i in row[here].tolist()] for row, here in zip(best, asked, strict=True)]

    def usual(self, known: Sequence[Any], labels: Tensor) -> Tensor:
        return one_of(self.labels, chain.from_iterable(known)).expand(*labels.shape, -1)


def one_of(labels: Sequence[str], known: Iterable[str]) -> Tensor:
    """Logits, (C,), for the label that is commonest."""
    commonest = max(labels, key=Counter(known).__getitem__)
    return torch.tensor([float(label == commonest) for label in labels])


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """T^2 KL(teacher || student) at temperature T, mean over rows; logits (B, C)."""
    return TEMPERATURE**2 * F.kl_div(
        F.log_softmax(student / TEMPERATURE, -1),
        F.log_softmax(teacher / TEMPERATURE, -1),
        reduction="batchmean",
        log_target=True,
    )


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


PROBLEMS: Mapping[ProblemType, type[Problem]] = {
    "single_label_classification": SingleLabel,
    "multi_label_classification": MultiLabel,
    "token_classification": Words,
}


def problem_of(kind: ProblemType, labels: Sequence[str], known: Sequence[Label] = ()) -> Problem:
    """With what the outputs stand for; `known` labels give a regression its mean and deviation."""
    if kind != "regression":
        return PROBLEMS[kind](tuple(labels))
    values = numbers(known)
    return Regression(tuple(labels), fmean(values), pstdev(values) or 1.0) if values else Regression(tuple(labels))
