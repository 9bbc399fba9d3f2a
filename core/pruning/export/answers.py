"""What a reader of a report wants first: whether it held, what transfer gave, what to do next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from core.spec.budget import Budget
from core.spec.job import JobSpec
from core.spec.metrics import METRICS, NUMBERS
from core.spec.report import Interval, Report
from core.spec.task import SEARCHING

FEW = 200  # test rows: a share is then known to some 7 points


@dataclass(frozen=True)
class Badge:
    """A word on how it went; `mood` is good, bad or even, and has a glyph, for who sees no colours."""

    mood: str
    says: str

    @property
    def glyph(self) -> str:
        """Beside the words."""
        return {"good": "✓", "bad": "✗", "even": "≈"}[self.mood]


def badges(report: Report) -> list[Badge]:
    """Of the budget, which is always met, and of the quality, by the paired interval."""
    return [Badge("good", "budget met"), *([found] if (found := quality(report)) else [])]


def quality(report: Report) -> Badge | None:
    """How the pruned model stands to the dense one; None where an earlier version did not say."""
    if report.results.change is None:
        return None
    metric = report.task.metric
    change = report.results.change[metric]
    if change.high < 0:
        return Badge("bad", f"{amount(-change.value, metric)} of {METRICS[metric]} lost")
    if change.low > 0:
        return Badge("good", f"{amount(change.value, metric)} of {METRICS[metric]} above dense")
    return Badge("even", f"{METRICS[metric]} not told apart from dense")


def transfer(report: Report) -> str:
    """What was borrowed, and what that gave, as far as it was asked."""
    metric, gained = report.task.metric, report.results.gained
    if report.transfer.coupling == "none":
        auto = report.transfer.auto
        tried = " (trials found nothing that helps)" if auto and auto.trials else ""
        return f"Nothing was borrowed{tried}."
    if gained is None:
        return 'What transfer gave is not known: add "control": true to see the same job without it.'
    found = gained[metric]
    told = "by more than chance" if found.low > 0 else "a loss" if found.high < 0 else "not told from nothing"
    return f"Transfer gave {signed(found, metric)}, {told}."


def steps(report: Report, spec: JobSpec) -> Iterator[str]:
    """What to try next, by rules."""
    change = report.results.change and report.results.change[report.task.metric]
    kind, asked = report.budget.cost, report.budget.asked
    counted = kind in ("params", "macs", "bytes") and asked <= 1
    lead = report.results.dense.lead
    if lead and lead.low <= 0:  # other sizes of such a model say nothing
        own = "" if spec.task.unlabelled else ", or your own rows without labels in 'task.unlabelled'"
        yield f"Learn more before sizes are compared: give more training rows, more steps in 'train.steps.teach'{own}."
    elif change and change.high < 0:
        if counted and asked < 0.5:
            yield f"See what more room buys: {family(spec.budget, asked, (2, 4))}."
        if not spec.task.unlabelled:
            auto = "" if spec.task.type in SEARCHING else " or 'auto'"
            mend = f", with coupling 'teacher'{auto}" if spec.coupling in ("sequential", "joint", "tied") else ""
            yield f"Give your own rows without labels in 'task.unlabelled'{mend}: small models gain most from these."
        elif not spec.sources:
            yield "Give related rows in 'sources', with labels or without."
    elif change and counted:
        yield f"See whether less does: {family(spec.budget, asked, (1 / 2, 1 / 4))}."
    if not spec.onnx_formats and spec.budget.sparsity is None:
        yield "Add \"onnx\" to 'export.formats': ONNX Runtime is the fastest way to run it on a CPU."
    if report.data.test < FEW:
        yield f"Give more test rows: {report.data.test} tell models apart roughly."


def family(budget: Budget, asked: float, times: tuple[float, ...]) -> str:
    """The field that asks for other sizes beside this one, of the same kind."""
    kind = budget.kind
    rest = "".join(f', "{name}": {json.dumps(value)}' for name, value in budget if name != kind and value is not None)
    sizes = sorted({min(1.0, asked * by) for by in (1, *times)}, reverse=True)
    return '"budgets": [' + ", ".join(f'{{"{kind}": {size:.3g}{rest}}}' for size in sizes) + "]"


def amount(value: float, metric: str) -> str:
    """2.3 points, or 0.023 of what is no share."""
    return f"{value:.3g}" if metric in NUMBERS else f"{100 * value:.1f} points"


def signed(found: Interval, metric: str) -> str:
    """+2.3 (0.4 to 4.2) points of accuracy."""
    by, unit = (1.0, "") if metric in NUMBERS else (100.0, " points of")
    value, low, high = (f"{by * one:+.3g}".replace("-", "−") for one in (found.value, found.low, found.high))
    return f"{value} ({low} to {high}, paired){unit} {METRICS[metric]}"
