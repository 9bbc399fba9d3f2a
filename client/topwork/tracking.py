"""What a job found, told to a tracker of experiments that the user has: MLflow, W&B or Trackio.

Addresses and keys of the tracker are what its own environment says: the server never learns them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from topwork import jobs
from topwork.errors import TopworkError
from topwork.models import Curves, Job
from topwork.report import FamilyReport, Report, Result
from topwork.steps import Steps, Work

Tracker = Literal["mlflow", "wandb", "trackio"]
Numbers = Mapping[str, float]
Write = Callable[[str, str, Mapping[str, Any], Numbers, Curves], None]


def track(job: jobs.Named, to: Tracker, *, project: str = "topwork") -> Steps[None]:
    """Write settings, curves and results of a job that has succeeded as a run of a tracker."""
    if to not in WRITERS:
        raise TopworkError(f"'{to}' is no tracker that is known here; give one of {', '.join(WRITERS)}")
    found = yield from jobs.get(job)
    curves = yield from jobs.curves(found)
    settings, numbers = dict(_flat("", found.spec)), dict(measured(found))
    yield Work(lambda: WRITERS[to](project, found.title, settings, numbers, curves))


def measured(job: Job) -> Iterator[tuple[str, float]]:
    """Numbers of a job's report: dense and pruned, or each size."""
    report = job.report
    if isinstance(report, Report):
        yield "budget.fraction", report.budget.fraction
        yield from _of("dense", report.results.dense)
        yield from _of("pruned", report.results.pruned)
    elif isinstance(report, FamilyReport):
        yield from _of("dense", report.dense)
        for size in report.sizes:
            if size.result is not None:
                yield from _of(size.name, size.result)


def _of(name: str, result: Result) -> Iterator[tuple[str, float]]:
    yield from ((f"{name}.{metric}", quality.value) for metric, quality in result.test.items())
    yield from ((f"{name}.ms_batch_{size}", value) for size, value in result.latency_ms.items())
    yield f"{name}.params", result.model_params
    yield f"{name}.bytes", result.bytes


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Settings by dotted names; what is left out is left out."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _flat(f"{name}.{key}" if name else key, child)
    elif value not in (None, [], {}):
        yield name, value


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise TopworkError(f"{name} is not installed here: pip install {name}") from error


def _points(curves: Curves) -> Iterator[tuple[str, int, float]]:
    for series in curves.series:
        name = f"{series.stage}.{series.name}".replace(" ", ".")
        yield from ((name, step, value) for step, value in series.points)


def _mlflow(project: str, title: str, settings: Mapping[str, Any], numbers: Numbers, curves: Curves) -> None:
    mlflow = _module("mlflow")
    mlflow.set_experiment(project)
    with mlflow.start_run(run_name=title):
        mlflow.log_params({name: str(value)[:500] for name, value in settings.items()})
        for name, step, value in _points(curves):
            mlflow.log_metric(name, value, step=step)
        mlflow.log_metrics(dict(numbers))


def _like_wandb(module: str) -> Write:
    """Of W&B, and of Trackio, which is called alike: curves in the order of the stages, since steps only grow."""

    def write(project: str, title: str, settings: Mapping[str, Any], numbers: Numbers, curves: Curves) -> None:
        tracker = _module(module)
        run = tracker.init(project=project, name=title, config=dict(settings))
        for name, step, value in _points(curves):
            run.log({name: value, f"{name}.step": step})
        run.log(dict(numbers))
        run.finish()

    return write


WRITERS: Mapping[str, Write] = {"mlflow": _mlflow, "wandb": _like_wandb("wandb"), "trackio": _like_wandb("trackio")}
