"""`report.html` of a job that only measured: milliseconds of a pass against what is left, under each condition."""

from __future__ import annotations

from pathlib import Path

from core.domains.model_ref import ModelRef
from core.pruning.export.charts import Curve, curve
from core.pruning.export.html_report import RUNTIMES, ms, rounded, template
from core.spec.job import JobSpec
from core.spec.latency import Latency
from core.spec.report import ProbeReport


def write_probe_page(report: ProbeReport, spec: JobSpec, model: ModelRef, target: Path) -> None:
    """Write the page to `target`."""
    page = template("probe").render(
        report=report,
        spec=spec,
        model=model,
        runtimes=RUNTIMES,
        unit="pixels a side" if spec.task.image is not None else "tokens",
        curves=[against_left(one) for one in report.latency],
    )
    target.write_text(page, encoding="utf-8")


def against_left(latency: Latency) -> Curve:
    """Milliseconds against the part that is left, up to dense."""
    parts = {point.left: point.ms for point in latency.curve} | {1.0: latency.dense_ms}
    return curve(
        f"{latency.runtime}, batch {latency.batch_size}, length {latency.length}",
        {rounded(left): (left, took, took, took) for left, took in parts.items()},
        show=ms,
        cost=rounded,
    )
