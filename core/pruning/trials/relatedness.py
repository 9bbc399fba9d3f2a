"""Do a source's labels say anything about the target's? Asked before labels are transferred.

A model that was taught by the source alone answers the target's rows, none of which it has seen. How far its answers go
with the target's labels is the squared norm of their covariance, as in linear CKA (Kornblith et al., ICML 2019),
placed between what chance gives and the largest that it could be. Transferability scores such as LEEP (Nguyen et al.,
ICML 2020) ask the same of pre-trained models; this one also serves several labels, and numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.tasks import Task

RELATED = 0.1  # less says that labels have next to nothing in common: docs/log.md
WELL_RELATED = 0.3  # as they were where labels were seen to help; in between, less is to be expected of them
ORDERS = 99  # of the rows, that say what chance gives; what does not exceed them all is chance (p = 0.01)


def relatedness(logits: Tensor, labels: Tensor, task: Task, same: bool) -> float:
    """How far answers and labels go together, from 0, as by chance, to 1.

    `logits`: of the source's head for the target's rows, (N, K), of words (N, T, K). `task`: the target's. `same`:
    the source has the target's labels, and only what agrees with them counts; of two classes the squared correlation.
    """
    answers = task.outputs(task.asked(logits, labels))
    wanted = task.indicators(labels, answers.shape[1] if same else 0)
    answers, wanted = (part.double() - part.double().mean(0) for part in (answers, wanted))
    if same:
        most = answers.square().sum() * wanted.square().sum()
    else:  # von Neumann's trace inequality
        sizes = [torch.linalg.svdvals(part).square() for part in (answers, wanted)]
        most = sum((a * b for a, b in zip(*sizes, strict=False)), torch.zeros((), dtype=torch.double))
    if most <= 0:
        return 0.0

    def together(wanted: Tensor) -> Tensor:
        if same:
            return (answers * wanted).sum().clamp(min=0).square()
        return (answers.T @ wanted).square().sum()

    generator = torch.Generator().manual_seed(0)
    orders = (torch.randperm(len(wanted), generator=generator) for _ in range(ORDERS))
    chance = torch.stack([together(wanted[order]) for order in orders])
    found = together(wanted)
    return float((found - chance.mean()) / (most - chance.mean())) if found > chance.max() else 0.0


def against_own(found: float, own: float) -> float:
    """What was `found` of the target, where the same model's answers to source rows that it has not seen reach `own`.

    A hard task is learned to a part in so few steps: under `WELL_RELATED` of its own, `found` counts as much more as is
    missing there. It never becomes more than `WELL_RELATED` by that.
    """
    return found * WELL_RELATED / min(WELL_RELATED, max(own, found)) if own > 0 else found
