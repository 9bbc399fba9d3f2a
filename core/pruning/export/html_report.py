"""`report.html`: what `report.json` says, for people. One file without scripts or outside resources.

All markup is in `templates/report.html.txt`, which escapes every value: labels and names are the user's text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from core.domains.anatomy import Anatomy
from core.domains.model_ref import ModelRef
from core.domains.structure import Structure
from core.pruning.export import answers
from core.pruning.export.charts import Chart, Points, chart, layers, strips
from core.pruning.export.sides import Sides
from core.pruning.latency.passes import SEQUENCE_LENGTH
from core.spec.job import JobSpec
from core.spec.metrics import METRICS, NUMBERS, megabytes, shown
from core.spec.report import Curve, Report, Result, Tested
from core.spec.task import VECTORS
from core.tasks import TASKS

LABELS = 30  # that are shown
TEMPLATES = Path(__file__).parent / "templates"

COSTS = {
    "params": "parameters",
    "macs": "multiply-accumulates",
    "bytes": "bytes",
    "sparsity": "non-zero weights",
    "latency_ms": "latency",
    "speedup": "latency",
}
RUNTIMES = {
    "torch": "eager PyTorch in float32",
    "torch.compile": "torch.compile in float32",
    "onnx": "ONNX Runtime in float32",
    "onnx-int8": "ONNX Runtime in int8",
}
STAGES = {
    "teach": "Teach the dense model",
    "prune": "Prune: learn the masks",
    "recover": "Recover what is left",
}


def write_page(
    report: Report,
    spec: JobSpec,
    model: ModelRef,
    structure: Structure,
    anatomy: Anatomy,
    target: Path,
    hidden: int = 0,
    sides: Sides | None = None,
    loads: str = "",
) -> None:
    """Write the page to `target`. `anatomy`: of the dense model, which has so many `hidden` dimensions, if any.

    `sides`: test rows that changed sides; `loads`: code that loads the checkpoint.
    """
    images, dense = spec.task.image is not None, Structure.dense(anatomy)
    picture = [] if images else layers(structure, dense)
    metric = report.task.metric
    page = template("report").render(
        report=report,
        model=model,
        spec=spec,
        metric=metric,
        vectors=report.task.problem in VECTORS,
        metrics={name: METRICS[name] for name in (metric, *report.results.pruned.test)},
        numbers=NUMBERS,
        models=models(report),
        baseline=report.results.baseline,
        usual=TASKS[report.task.problem].usual_answer,
        stages={name: (title, curves(report, name)) for name, title in STAGES.items() if curves(report, name)},
        most_heads=max((len(layer.heads) for layer in picture), default=0),
        stream=hidden,
        strips=strips(structure, anatomy) if images else [],
        sides=sides,
        channels=sum(block.size for block in anatomy.blocks),
        every={
            "heads": sum(len(layer.heads) for layer in picture),
            "neurons": sum(layer.width for layer in picture),
            "blocks": sum(block.size > 0 for block in anatomy.blocks),
        },
        layers=picture,
        heads=sum(layer.heads_kept for layer in picture),
        neurons=sum(layer.neurons_kept for layer in picture),
        blocks=sum(bool(layer.heads_kept) + bool(layer.neurons_kept) for layer in picture),
        weights=weights(report),
        unit=COSTS[report.budget.cost],
        runtimes=RUNTIMES,
        recall=sorted(report.results.recall.items(), key=lambda one: one[1].pruned - one[1].dense)[:LABELS],
        badges=answers.badges(report),
        gave=answers.transfer(report),
        steps=[*answers.steps(report, spec)],
        loads=loads,
        trials=[trial.model_dump() for trial in report.transfer.auto.trials] if report.transfer.auto else [],
        size=f"{report.results.dense.latency_length} pixels a side" if images else f"{SEQUENCE_LENGTH} tokens",
    )
    target.write_text(page, encoding="utf-8")


def template(name: str) -> Template:
    """One of the pages, in which every value is escaped."""
    loader = FileSystemLoader(TEMPLATES, encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=loader
    )
    environment.filters |= {
        "percent": percent,
        "count": "{:,}".format,
        "say": say,
        "megabytes": megabytes,
        "pretty": pretty,
        "ms": ms,
        "shown": shown,
        "change": change,
    }
    environment.tests["measured"] = lambda model: isinstance(model, Result)
    return environment.get_template(f"{name}.html.txt")


def models(report: Report) -> dict[str, Tested]:
    """What is compared: the dense model and the pruned one; beside them, where there is one, the model as given, and
    the pruned one without transfer.
    """
    results = report.results
    found = {"as given": results.given, "dense": results.dense, "pruned": results.pruned, "no transfer": report.control}
    return {name: model for name, model in found.items() if model}


def curves(report: Report, stage: str) -> list[Chart]:
    """Charts of one stage: quality on dev (one scale for all stages), loss, and sparsity where there is one."""
    curve = report.curves.get(stage, Curve())
    points = curve.points
    if not points:
        return []
    metric = report.task.metric
    quality = [p[metric] for c in report.curves.values() for p in c.points]
    turns = [a["step"] for a, b in pairwise(points) if a.get("phase") != b.get("phase")]
    charts = [
        chart(
            f"{METRICS[metric]} on dev",
            {METRICS[metric]: [(p["step"], p[metric]) for p in points]},
            show=short if metric in NUMBERS else rounded,
            turns=turns,
            kept=curve.kept_step,
            low=min(quality),
            high=max(quality),
        ),
        chart("loss on dev", {"loss": [(p["step"], p["loss"]) for p in points]}, show=short, low=0, height=110),
    ]
    names = [name for name in ("target", "sparsity") if name in points[0]]
    if names:
        series: dict[str, Points] = {name: [(p["step"], p[name]) for p in points] for name in names}
        charts.append(chart("share of the encoder removed", series, show=rounded, low=0, high=1, height=130))
    return charts


def weights(report: Report) -> Chart | None:
    """Weight of each task over the steps of all stages, where weights were learned."""
    series = {name: points for name, points in report.transfer.weights.items() if points}
    return chart("weight of each task in the loss, all stages", series, show=short, low=0) if series else None


def percent(share: float) -> str:
    """One decimal: 81.9%."""
    return f"{share:.1%}"


def rounded(share: float) -> str:
    """82% when that is all there is, as on an axis."""
    return f"{share:.1%}".replace(".0%", "%")


def short(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def change(value: float, metric: str) -> str:
    """How far a metric is from another: +1.2 points, or −0.034 of what is no share."""
    text = f"{value:+.4g}" if metric in NUMBERS else f"{100 * value:+.1f} points"
    return text.replace("-", "−")


def ms(value: float) -> str:
    """Milliseconds to three digits: 4.07 ms, 0.912 ms, 131 ms."""
    return f"{value:.3g} ms" if value < 100 else f"{value:,.0f} ms"


def say(value: Any) -> str:
    """Any JSON value in a table cell."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return short(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {say(item)}" for name, item in value.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(say, value)) or "–"
    return str(value)


def pretty(value: Any) -> str:
    """Indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)
