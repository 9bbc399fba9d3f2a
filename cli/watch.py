"""Follow jobs to their end: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from cli.client import Client
from core.spec.metrics import shown
from core.spec.report import FamilyReport, probed, stored

ENDED = ("succeeded", "failed", "cancelled")
POLL_S = 1.0
LONG_POLL_S = 20.0
LINE_EVERY_S = 10.0

Job = Mapping[str, Any]


def follow(
    client: Client, jobs: Mapping[str, str], console: Console, pause: Callable[[float], None] = time.sleep
) -> dict[str, Job]:
    """Poll until every job (name -> id) has ended; returns name -> job."""
    printer = _Lines(console)
    live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
    seen: dict[str, Job] = {}
    with live or nullcontext():
        while True:
            left = [name for name in jobs if name not in seen or seen[name]["status"] not in ENDED]
            # Alone, a job that waits in the queue need not be asked for every second.
            wait_s = LONG_POLL_S if len(left) == 1 and left[0] in seen else 0
            seen |= {name: client.job(jobs[name], wait_s) for name in left}
            if live is not None:
                live.update(_table(seen))
            else:
                printer.show(seen)
            if all(job["status"] in ENDED for job in seen.values()):
                return seen
            pause(POLL_S)


def failure(job: Job) -> str | None:
    """Why a job that has ended did not succeed; None if it did."""
    if job["status"] == "succeeded":
        return None
    error = job.get("error") or {}
    where = f"{error['field']}: " if error.get("field") else ""
    return f"job {job['id']} {job['status']}" + (f": {where}{error['message']}" if error else "")


def describe(job: Job) -> dict[str, str]:
    """The parts of a job's progress that are known, as short texts."""
    progress = job.get("progress") or {}
    parts = {}
    if job["status"] == "running" and job.get("stage"):
        size = progress.get("size") if progress.get("stage") == job["stage"] else None
        parts["stage"] = f"{job['stage']} ({size})" if size else str(job["stage"])
    if job["status"] == "running":
        if progress.get("steps"):
            parts["step"] = f"{progress['step']} of {progress['steps']}"
        if progress.get("eta_s") is not None:
            parts["left"] = _duration(progress["eta_s"])
        if progress.get("sparsity") is not None:
            parts["sparsity"] = f"{progress['sparsity']:.0%}"
        metric = job["spec"]["task"]["metric"]
        if (value := (progress.get("dev") or {}).get(metric)) is not None:
            parts["dev"] = f"{shown(value, metric)} {metric}"
    if job.get("waiting"):
        parts["because"] = str(job["waiting"])
    if job.get("attempt", 1) > 1:
        parts["attempt"] = f"{job['attempt']} of {job['max_attempts']}"
    return parts


def result(job: Job) -> str | None:
    """What a job that has succeeded has made, in a line."""
    if probe := probed(job.get("metrics")):
        return "; ".join(one.says for one in probe.latency)
    if (report := stored(job.get("metrics"))) is None:
        return None
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
    take = "every size is told apart from dense"
    if report.recommended:
        take = f"the smallest not told apart from dense is {report.recommended}"
    return "; ".join([f"{metric} on the test rows: {', '.join(made)} (dense {dense})", take, *failed])


def warnings(job: Job) -> list[str]:
    """What to know of a job that has succeeded before its numbers are believed, the gravest first."""
    report = stored(job.get("metrics"))
    return [f"Mind: {said}" for said in report.warnings] if report else []


def overall(job: Job) -> float:
    """How much of the whole job is done, 0 to 1."""
    if job["status"] == "succeeded":
        return 1.0
    return float((job.get("progress") or {}).get("overall") or 0.0)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _table(jobs: Mapping[str, Job]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("job", "status", "stage", "step", "left", "sparsity", "dev", "overall"):
        table.add_column(heading, no_wrap=True)
    for name, job in jobs.items():
        parts = describe(job)
        status = str(job["status"]) + (f" (attempt {parts['attempt']})" if "attempt" in parts else "")
        status += f": {parts['because']}" if "because" in parts else ""
        cells = (parts.get(key, "") for key in ("stage", "step", "left", "sparsity", "dev"))
        table.add_row(name, status, *cells, ProgressBar(1.0, overall(job), width=24))
    return table


class _Lines:
    """A line when a job changes its status or stage, and every ten seconds in between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[str, tuple[object, float]] = {}

    def show(self, jobs: Mapping[str, Job]) -> None:
        """Print what is new."""
        for name, job in jobs.items():
            state = (job["status"], job["stage"], job["attempt"], job.get("waiting"))
            before, at = self._last.get(name, (None, 0.0))
            waiting = job["status"] in ("queued", *ENDED)
            if state == before and (waiting or time.monotonic() - at < LINE_EVERY_S):
                continue
            self._last[name] = (state, time.monotonic())
            parts = ", ".join(f"{key} {value}" for key, value in describe(job).items())
            line = f"{name}: {job['status']}" + (f", {parts}" if parts else "") + f", {overall(job):.0%} overall"
            self._console.print(line, markup=False, soft_wrap=True)
