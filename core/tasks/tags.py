"""`token_classification`: a tag for each word of a row, said by the word's first token."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from core.measures.intervals import Measure
from core.measures.tags import of_tags
from core.rows.labels import no_entity_tag
from core.tasks.task import IGNORED, Task, brier, distillation, one_hot, one_of, rarest


class Tags(Task):
    """A tag for each word, said by its first token. Logits are (N, T, C), labels (N, T): IGNORED for other tokens."""

    of_words: ClassVar[bool] = True
    auto_class: ClassVar[str] = "AutoModelForTokenClassification"

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

    def outputs(self, logits: Tensor) -> Tensor:
        return logits.softmax(1)

    def indicators(self, labels: Tensor, classes: int) -> Tensor:
        return one_hot(labels[labels != IGNORED], classes)

    def usual(self, known: Sequence[Any], labels: Tensor) -> Tensor:
        return one_of(self.labels, chain.from_iterable(known)).expand(*labels.shape, -1)
