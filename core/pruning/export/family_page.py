"""`report.html` of several sizes: their curve, and which one to take."""

from __future__ import annotations

from pathlib import Path

from core.domains.model_ref import ModelRef
from core.pruning.export.charts import Curve, curve
from core.pruning.export.html_report import COSTS, ms, rounded, short, template
from core.spec.job import JobSpec
from core.spec.metrics import METRICS, NUMBERS, megabytes
from core.spec.report import FamilyReport, Result
from core.tasks import TASKS


def write_family_page(report: FamilyReport, spec: JobSpec, model: ModelRef, target: Path) -> None:
    """Write the page of all sizes to `target`; each has a page of its own in its folder, which this one links."""
    metric = report.task.metric
    made = {size.name: size for size in report.sizes if size.result}
    page = template("family").render(
        report=report,
        spec=spec,
        model=model,
        metric=metric,
        metrics=METRICS,
        numbers=NUMBERS,
        made=made,
        of_files={name: size.files for name, size in made.items() if len(size.files) > 1},
        failed=[size for size in report.sizes if size.error],
        recommended=made.get(report.recommended or ""),
        no_better=any(size.result and size.result.lead and size.result.lead.low <= 0 for size in report.sizes[:1]),
        curves=curves(report),
        units=COSTS,
        usual=TASKS[report.task.problem].usual_answer,
    )
    target.write_text(page, encoding="utf-8")


def curves(report: FamilyReport) -> list[Curve]:
    """Quality against parameters, bytes and milliseconds of one row; dense is on each."""
    metric = report.task.metric
    models = {"dense": report.dense, **{size.name: size.result for size in report.sizes if size.result}}
    costs = {
        "parameters": ({name: float(one.model_params) for name, one in models.items()}, millions),
        "weights on disk": ({name: float(one.bytes) for name, one in models.items()}, lambda x: megabytes(int(x))),
        "milliseconds, batch 1": ({name: one.latency_ms["1"] for name, one in models.items()}, ms),
    }
    return [
        curve(
            f"{METRICS[metric]} against {what}",
            {name: (cost, *quality(models[name], metric)) for name, cost in each.items()},
            show=short if metric in NUMBERS else rounded,
            cost=say,
            ringed=report.recommended,
        )
        for what, (each, say) in costs.items()
    ]


def quality(result: Result, metric: str) -> tuple[float, float, float]:
    """Value, low and high."""
    found = result.test[metric]
    return found.value, found.low, found.high


def millions(count: float) -> str:
    """Parameters: 22.7 M."""
    return f"{count / 1e6:.3g} M" if count >= 1e5 else f"{count:,.0f}"
