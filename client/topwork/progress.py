"""How a job that runs is shown: a live view in a terminal, a bar in a notebook, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

from pydantic import ValidationError
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from topwork.models import ENDED, Event, Job
from topwork.report import Latency, shown

LINE_EVERY_S = 10.0
BAR = 24  # columns

Jobs = Mapping[str, Job]
Show = Callable[[Jobs, Sequence[Event], str | None], None]  # jobs by name; what has happened; what is wrong meanwhile

STAGES = {  # as on the server's page
    "data": "reads the rows, leaves out duplicates, splits them",
    "auto": "finds out by short trials whether and how to borrow from the sources",
    "teach": "trains the dense model on the task",
    "prune": "finds out what each part is worth, and cuts down to the budget",
    "recover": "trains what is left",
    "measure": "measures quality on the test rows, size and speed",
    "export": "writes the files, and has a fresh process load and check them",
}


@contextmanager
def progress_of(asked: bool | Show, console: Console | None = None) -> Iterator[Show]:
    """What shows a job's progress as long as it is waited for."""
    if callable(asked):
        yield asked
    elif not asked:
        yield lambda _jobs, _news, _wrong: None
    elif in_notebook():
        yield _notebook()
    elif (console := console or Console(highlight=False, emoji=False)).is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield _Terminal(live)
    else:
        yield Lines(console)


def in_notebook() -> bool:
    """Whether this runs in a kernel of Jupyter."""
    try:
        from IPython import get_ipython  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return False
    return type(get_ipython()).__name__ == "ZMQInteractiveShell"


def describe(job: Job) -> dict[str, str]:
    """The parts of a job's progress that are known, as short texts."""
    progress, parts = job.progress, {}
    if job.status == "running" and job.stage:
        size = progress.size if progress.stage == job.stage else None
        parts["stage"] = f"{job.stage} ({size})" if size else job.stage
    if job.status == "running":
        if progress.steps:
            parts["step"] = f"{progress.step} of {progress.steps}"
        if progress.eta_s is not None:
            parts["left"] = duration(progress.eta_s)
        if progress.sparsity is not None:
            parts["sparsity"] = f"{progress.sparsity:.0%}"
        metric = job.spec.get("task", {}).get("metric")
        if (value := (progress.dev or {}).get(metric)) is not None:
            parts["dev"] = f"{shown(value, metric)} {metric}"
    if job.waiting:
        parts["because"] = job.waiting
    if job.attempt > 1:
        parts["attempt"] = f"{job.attempt} of {job.max_attempts}"
    return parts


def overall(job: Job) -> float:
    """How much of the whole job is done, 0 to 1."""
    return 1.0 if job.status == "succeeded" else float(job.progress.overall or 0.0)


def said(event: Event) -> str | None:
    """What a person should know of an event; None of the most."""
    data = event.data
    if event.type == "note":
        return str(data.get("message"))
    if event.type == "stage":
        of = f" ({data['size']})" if data.get("size") else ""
        control = "control without transfer: " if data.get("control") else ""
        stage = str(data.get("stage"))
        return f"{control}{stage}{of}: {STAGES.get(stage, 'goes on')}"
    if event.type == "size":
        return _trained(data)
    if event.type == "latency":
        return _measured(data)
    if event.type == "status" and data.get("reason"):
        return f"{data.get('status')}: {data['reason']}"
    return None


def _trained(data: Mapping[str, Any]) -> str | None:
    """How good one of several sizes is, as far as is known before the test rows; None as another version says it."""
    metric = str(data.get("metric"))
    control = "control without transfer: " if data.get("control") else ""
    try:
        value, low, high = (shown(data["quality"][name], metric) for name in ("value", "low", "high"))
        dense = shown(data["dense"]["value"], metric)
    except (KeyError, TypeError, ValueError):
        return None
    return f"{control}{data['size']}: {value} {metric} on the dev rows ({low} to {high}), dense {dense}"


def _measured(data: Mapping[str, Any]) -> str | None:
    """What the model takes on the worker; None as another version says it."""
    try:
        return f"measured: {Latency.model_validate(data.get('latency')).says}"
    except ValidationError:
        return None


def duration(seconds: float) -> str:
    """Minutes and seconds, or hours before them."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def failure(job: Job) -> str | None:
    """Why a job that has ended did not succeed; None if it did."""
    if job.status == "succeeded":
        return None
    where = f"{job.error.field}: " if job.error and job.error.field else ""
    return f"job {job.id} {job.status}" + (f": {where}{job.error.message}" if job.error else "")


class _Terminal:
    """The live view: two lines a job, and above them what has happened."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def __call__(self, jobs: Jobs, news: Sequence[Event], wrong: str | None) -> None:
        for line in filter(None, map(said, news)):
            self._live.console.print(line, markup=False, style="dim")
        blocks = [_block(name, job) for name, job in jobs.items()]
        self._live.update(Group(*blocks, *([Text(wrong)] if wrong else [])), refresh=True)


def _block(name: str, job: Job) -> Group:
    parts = describe(job)
    head = f"{name}  {job.status}" + (f", because {parts.pop('because')}" if "because" in parts else "")
    row = Table.grid(padding=(0, 2))
    row.add_row(ProgressBar(1.0, overall(job), width=BAR), f"{overall(job):.0%}", _told(parts))
    return Group(Text(head), row)


def _told(parts: Mapping[str, str]) -> str:
    return ", ".join(value if key == "stage" else f"{key} {value}" for key, value in parts.items())


class Lines:
    """A line when a job changes its status or stage, and every ten seconds in between."""

    def __init__(self, console: Console) -> None:
        self._console, self._wrong = console, False
        self._last: dict[str, tuple[object, float]] = {}

    def __call__(self, jobs: Jobs, news: Sequence[Event], wrong: str | None) -> None:
        """Print what is new."""
        for event in news:
            if event.type in ("note", "size", "latency") and (line := said(event)):
                self._print(f"{event.type}: {line}")
        if wrong and not self._wrong:
            self._print(wrong)
        self._wrong = bool(wrong)
        for name, job in jobs.items():
            self._one(name, job)

    def _one(self, name: str, job: Job) -> None:
        state = (job.status, job.stage, job.attempt, job.waiting)
        before, at = self._last.get(name, (None, 0.0))
        waiting = job.status in ("queued", *ENDED)
        if state == before and (waiting or time.monotonic() - at < LINE_EVERY_S):
            return
        self._last[name] = (state, time.monotonic())
        parts = ", ".join(f"{key} {value}" for key, value in describe(job).items())
        self._print(f"{name}: {job.status}" + (f", {parts}" if parts else "") + f", {overall(job):.0%} overall")

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)


def page(jobs: Jobs, wrong: str | None) -> str:
    """The bars as HTML, for a notebook."""
    lines = [
        f"<div>{escape(name)} {escape(job.status)} <progress value='{overall(job):.4f}' max='1'></progress> "
        f"{overall(job):.0%} {escape(_told(describe(job)))}</div>"
        for name, job in jobs.items()
    ]
    return "".join(lines) + (f"<div>{escape(wrong)}</div>" if wrong else "")


def _notebook() -> Show:
    from IPython.display import HTML, display  # type: ignore[import-not-found, unused-ignore]

    handle: Any = display(HTML(""), display_id=True)
    return lambda jobs, _news, wrong: handle.update(HTML(page(jobs, wrong)))
