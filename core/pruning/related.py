"""Do a source's labels say anything about the target's? Asked before labels are transferred.

A model that was taught by the source alone answers the target's rows, none of which it has seen. How far its answers go
with the target's labels is their linear CKA (Kornblith et al., ICML 2019). Transferability scores such as LEEP (Nguyen
et al., ICML 2020) ask the same of pre-trained models; CKA also serves several labels, and numbers.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from core.pruning.problem import IGNORED, MultiLabel, Problem, Regression

RELATED = 0.1  # less says that labels have next to nothing in common: docs/methods.md


def relatedness(logits: Tensor, labels: Tensor, problem: Problem, same: bool) -> float:
    """CKA of answers and labels, from 0, as much as by chance, to 1.

    `logits`: of the source's head for the target's rows, (N, K), of words (N, T, K). `problem`: the target's. `same`:
    the source has the target's labels. Then answers that contradict them are worth nothing, too.
    """
    answers = outputs(problem.asked(logits, labels), problem)
    wanted = indicators(labels, answers.shape[1] if same else 0, problem)
    answers, wanted = (part.double() - part.double().mean(0) for part in (answers, wanted))
    common = answers.T @ wanted
    if len(answers) < 2 or (same and common.trace() <= 0):
        return 0.0
    chance = answers.square().sum() * wanted.square().sum() / (len(answers) - 1)  # mean over all orders of the rows
    scale = (answers.T @ answers).norm() * (wanted.T @ wanted).norm()
    return max(0.0, float((common.square().sum() - chance) / scale)) if scale > 0 else 0.0


def outputs(logits: Tensor, problem: Problem) -> Tensor:
    """What is answered, (N, K): probabilities, or the number."""
    if isinstance(problem, Regression):
        return logits
    return logits.sigmoid() if isinstance(problem, MultiLabel) else logits.softmax(1)


def indicators(labels: Tensor, classes: int, problem: Problem) -> Tensor:
    """Labels in numbers, (N, C): 1 for what applies, or the number. `classes`: how many there are at least."""
    if isinstance(problem, Regression):
        return labels[:, None]
    if isinstance(problem, MultiLabel):
        return labels
    known = labels[labels != IGNORED] if problem.of_words else labels
    return F.one_hot(known, max(classes, int(known.max()) + 1))
