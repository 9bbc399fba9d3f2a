"""Whether a model is better than one answer for every row, by the metric of the task: the first of a job's warnings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from core.spec.data import Splits
from core.spec.metrics import METRICS, NUMBERS, shown
from core.spec.task import TaskSpec
from core.tasks import TASKS, Task

UNBALANCED = 1.2  # times what always one class would reach if all were as frequent


def lead(task: Task, metric: str, logits: Tensor, labels: Tensor, usual: Tensor) -> dict[str, float]:
    """By how much a model's metric leads one answer for all rows, as {value, low, high, over: what that reaches}.

    The answer is what training rows say most (`usual`, as logits) or what the model itself does, whichever does better.
    """
    own = task.usual(task.said(logits, labels), labels)
    usual_reaches, own_reaches = (task.quality(constant, labels)[metric] for constant in (usual, own))
    found = task.lead(logits, own if own_reaches > usual_reaches else usual, labels)[metric]
    return found | {"over": max(usual_reaches, own_reaches)}


def verdict(results: Mapping[str, Any], task: TaskSpec, splits: Splits) -> Iterator[str]:
    """One sentence where the dense or the pruned model does not lead one answer for all rows by more than chance."""
    metric = task.metric
    value = {name: results[name]["test"][metric]["value"] for name in ("dense", "pruned")}
    behind = [name for name in value if results[name]["lead"]["low"] <= 0]
    if not behind:
        return
    first, *other = behind
    found = results[first]["lead"]
    said, chance = "is no better", ""
    if found["value"] > 0:
        low, high = (f"{found[end]:+.3f}" if metric in NUMBERS else f"{found[end]:+.1%}" for end in ("low", "high"))
        said, chance = "cannot be told to be better", f", a lead whose 95% interval is {low} to {high}"
    yield (
        f"the {first} model {said} than always giving {TASKS[task.problem].usual_answer}: "
        f"{METRICS[metric]} {shown(value[first], metric)} against {shown(found['over'], metric)} on "
        f"{len(splits.test):,} test rows{chance}"
        + "".join(f", nor the {name} one, {shown(value[name], metric)}" for name in other)
        + f"; {_mend(first, found, task, splits)}"
    )


def _mend(name: str, found: Mapping[str, float], task: TaskSpec, splits: Splits) -> str:
    mend = "add training rows, raise train.steps.teach, or give related sources"
    if name == "pruned":
        mend = "allow a larger budget, raise train.steps.recover, or give related sources"
    elif task.metric == "accuracy" and found["over"] * len(splits.labels) > UNBALANCED:
        mend = "set task.metric to 'balanced_accuracy' or 'f1', and add training rows of the rarer classes"
    return ("more test rows would tell; else " if found["value"] > 0 else "") + mend
