"""What the server made out of a file, and a job's result: in words."""

from __future__ import annotations

from collections.abc import Iterator

from topwork.inventory import ColumnFacts, Dataset
from topwork.models import Job
from topwork.report import BudgetMet, FamilyReport, ProbeReport, Report, Result, Told, milliseconds, shown

FEW = 12  # columns, and values of one, that are shown
MANY = 60  # characters of a value, or name
COSTS = {"params": "parameters", "macs": "multiply-accumulates", "sparsity": "non-zero weights"}


def understood(dataset: Dataset) -> Iterator[str]:
    """Of a data set: a line of how it was read, one of its columns, and all that is odd.

    None of one that an earlier version of the server has read.
    """
    known = dataset.understood
    if known is None:
        return
    yield f"{dataset.name}: {known.rows:,} rows"
    columns = [_column(facts) for facts in known.columns[:FEW]]
    more = len(known.columns) - FEW
    yield "  columns: " + ", ".join(columns + [f"and {more} more"] * (more > 0))
    for skipped in known.skipped[:FEW]:
        yield f"  left out: {short(skipped.column)}, which {skipped.why}"
    for note in known.notes:
        yield f"  {note}"


def _column(facts: ColumnFacts) -> str:
    told = [facts.type] + [f"{facts.empty:,} empty"] * (facts.empty > 0)
    values = [f"{short(value)} {count:,}" for value, count in list(facts.values.items())[:FEW]]
    values += ["..."] * (len(facts.values) > FEW)
    return f"{short(facts.name)} ({', '.join(told)}{': ' if values else ''}{', '.join(values)})"


def short(text: str, most: int = MANY) -> str:
    """At most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def result(job: Job) -> str | None:
    """What a job that has succeeded has made, in a line."""
    report = job.report
    if report is None:
        return None
    if isinstance(report, ProbeReport):
        return "; ".join(one.says for one in report.latency)
    metric = report.task.metric
    if isinstance(report, FamilyReport):
        return _sizes(report, metric)
    dense, pruned = (shown(one.test[metric].value, metric) for one in (report.results.dense, report.results.pruned))
    quality = f"{pruned} {metric} on the test rows (dense {dense})"
    return f"{quality}, {report.budget.fraction:.2%} of what the budget counts kept"


def _sizes(report: FamilyReport, metric: str) -> str:
    """What became of each size, and which to take."""
    made = [f"{size.name} {shown(size.result.test[metric].value, metric)}" for size in report.sizes if size.result]
    failed = [f"{size.name} was not made: {size.error}" for size in report.sizes if size.error]
    dense = shown(report.dense.test[metric].value, metric)
    take = "no size is recommended"
    if report.recommended:
        take = f"the smallest not told apart from dense is {report.recommended}"
    return "; ".join([f"{metric} on the test rows: {', '.join(made)} (dense {dense})", take, *failed])


def warnings(job: Job) -> list[str]:
    """What to know of a job that has succeeded before its numbers are believed, the gravest first."""
    return [f"Mind: {told}" for told in job.report.warnings] if isinstance(job.report, Told) else []


def following(job: Job) -> list[str]:
    """The commands that come next for a job that has succeeded."""
    size = ""
    if isinstance(job.report, FamilyReport):
        made = [one.name for one in job.report.sizes if one.result]
        size = f" --size {job.report.recommended or (made[-1] if made else 'SIZE')}"
    after = "topwork plan SPEC" if isinstance(job.report, ProbeReport) else f"topwork download {job.id} FOLDER{size}"
    return [f"topwork report {job.id} --open", after]


def report_said(job: Job) -> Iterator[str]:
    """A job's report, in about ten lines."""
    yield from warnings(job)
    report = job.report
    if isinstance(report, Report):
        dense, pruned = report.results.dense, report.results.pruned
        metric = report.task.metric
        for name, one in (("dense ", dense), ("pruned", pruned)):
            quality = one.test[metric]
            times = " / ".join(f"{milliseconds(ms)} ms (batch {size})" for size, ms in one.latency_ms.items())
            value, low, high = (shown(part, metric) for part in (quality.value, quality.low, quality.high))
            yield f"{name}  {value} ({low} to {high})  {one.bytes / 1e6:.1f} MB  {times}"
        yield f"budget  {_met(report.budget)} ({report.budget.fraction:.2%} of dense)"
    if made := result(job):
        yield made


def _met(budget: BudgetMet) -> str:
    if budget.cost in ("latency_ms", "speedup"):
        met, limit = (f"{ms:.3g}" if ms < 100 else f"{ms:,.0f}" for ms in (budget.met, budget.limit))
        return f"{met} of {limit} ms"
    return f"{budget.met:,} of {budget.limit:,} {COSTS.get(budget.cost, budget.cost)}"


def numbers(job: Job) -> dict[str, str]:
    """What jobs are compared by, in words; of several sizes that of the one to take, or the smallest."""
    report = job.report
    if isinstance(report, Report):
        found = _numbers(report.task.metric, report.results.dense, report.results.pruned)
        return found | {"of the budget's cost": f"{report.budget.fraction:.2%}"}
    if isinstance(report, FamilyReport):
        made = {size.name: size.result for size in report.sizes if size.result}
        take = report.recommended or next(reversed(made), "")
        return {"size": take} | _numbers(report.task.metric, report.dense, made[take]) if take in made else {}
    return {}


def _numbers(metric: str, dense: Result, pruned: Result) -> dict[str, str]:
    quality = pruned.test[metric]
    rows = {
        f"{metric}, dense": shown(dense.test[metric].value, metric),
        f"{metric}, pruned": shown(quality.value, metric),
        "95 % interval": f"{shown(quality.low, metric)} to {shown(quality.high, metric)}",
        "MB": f"{pruned.bytes / 1e6:.1f}",
        "parameters": f"{pruned.model_params:,}",
    }
    return rows | {f"ms, batch {size}": milliseconds(ms) for size, ms in pruned.latency_ms.items()}
