"""What is said of quality before all else: of files that lose, and models no better than one answer for all rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from core.domains.weights import WHOLE
from core.pruning.latency.quiet import BUSY
from core.rows.splitting.splits import Splits
from core.spec.metrics import METRICS, NUMBERS, shown
from core.spec.report import FileMeasured, Lead, Results
from core.spec.task import TaskSpec
from core.tasks import TASKS, Task

# One answer for all rows, as it is called; of one class a row, the commonest answer.
UNBALANCED = 1.2  # times what always one class would reach if all were as frequent
POINT = 0.01  # of a metric


def lead(task: Task, metric: str, logits: Tensor, labels: Tensor, usual: Tensor) -> Lead:
    """By how much a model's metric leads one answer for all rows, and what that reaches.

    The answer is what training rows say most (`usual`, as logits) or what the model itself does, whichever does better.
    """
    own = task.usual(task.said(logits, labels), labels)
    usual_reaches, own_reaches = (task.quality(constant, labels)[metric] for constant in (usual, own))
    found = task.lead(logits, own if own_reaches > usual_reaches else usual, labels)[metric]
    return Lead(**found, over=max(usual_reaches, own_reaches))


def verdict(results: Results, task: TaskSpec, splits: Splits) -> Iterator[str]:
    """One sentence where the dense or the pruned model does not lead one answer for all rows by more than chance."""
    metric = task.metric
    models = {"dense": results.dense, "pruned": results.pruned}
    value = {name: model.test[metric].value for name, model in models.items()}
    leads = {name: model.lead for name, model in models.items() if model.lead and model.lead.low <= 0}
    if not leads:
        return
    first, *other = leads
    found = leads[first]
    said, chance = "is no better", ""
    if found.value > 0:
        low, high = (f"{end:+.3f}" if metric in NUMBERS else f"{end:+.1%}" for end in (found.low, found.high))
        said, chance = "cannot be told to be better", f", a lead whose 95% interval is {low} to {high}"
    usual = TASKS[task.problem].usual_answer.replace("always", "always giving")
    yield (
        f"the {first} model {said} than {usual}: "
        f"{METRICS[metric]} {shown(value[first], metric)} against {shown(found.over, metric)} on "
        f"{len(splits.test):,} test rows{chance}"
        + "".join(f", nor the {name} one, {shown(value[name], metric)}" for name in other)
        + f"; {_mend(first, found, task, splits)}"
    )


def busy(waited: float) -> Iterator[str]:
    """A sentence where other work was done while milliseconds were measured."""
    if waited > BUSY:
        yield (
            f"the machine was busy as milliseconds were measured: {waited:.0%} of the time went by waiting for a core; "
            "that is left out, but work beside slows what is counted, too: measure again on a quiet machine"
        )


def losses(files: Mapping[str, FileMeasured], metric: str) -> Iterator[str]:
    """One sentence for each file whose own quality is more than a point below that of the weights."""
    for name, file in files.items():
        if file.change is None or (change := file.change[metric]).value >= -POINT:
            continue
        unit, scale = ("", 1) if metric in NUMBERS else (" points", 100)
        by, low, high = (f"{scale * value:+.3g}" for value in (change.value, change.low, change.high))
        whole, own = (shown(one.test[metric].value, metric) for one in (files[WHOLE], file))
        yield (
            f"{name} loses more than a point: its {METRICS[metric]} is {own}, that of {WHOLE} {whole} ({by}{unit}, "
            f"{low} to {high}, paired); take another file where that counts"
        )


def _mend(name: str, found: Lead, task: TaskSpec, splits: Splits) -> str:
    more = "give the target's own rows without labels (task.unlabelled), or related sources"
    mend = f"add training rows, raise train.steps.teach, or {more}"
    if name == "pruned":
        mend = f"allow a larger budget, raise train.steps.recover, or {more}"
    elif task.metric == "accuracy" and found.over * len(splits.labels) > UNBALANCED:
        mend = "set task.metric to 'balanced_accuracy' or 'f1', and add training rows of the rarer classes"
    return ("more test rows would tell; else " if found.value > 0 else "") + mend
