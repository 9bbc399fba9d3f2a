"""`/compare`: jobs side by side: the settings that differ, their curves in one picture, quality against cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from api.amounts import size
from api.context import Context, Here
from api.page import charts, view, words
from api.page.answer import PageRoute, show
from api.page.spec import short
from api.routes import jobs as asked
from api.routes.results import curves
from core.ledger import tables
from core.ledger.jobs import listing, queries
from core.spec.metrics import METRICS
from core.spec.report import Interval, Result, TaskSaid, stored

MOST = 6
LETTERS = "ABCDEF"
MAX_EVENTS = 5000
APART = ("title", "labels", "webhook", "priority")  # of a job's place, not of what it does

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True)
class Compared:
    """A job of the comparison, by its letter."""

    letter: str
    row: view.JobRow
    result: Result | None
    settings: Mapping[str, str]
    series: Mapping[tuple[str, str], Sequence[charts.Point]]

    @property
    def name(self) -> str:
        """In a legend."""
        return f"{self.letter}: {self.row.title[:40]}"


@dataclass(frozen=True)
class Paired:
    """A job less the first one, by metric; else why not."""

    letter: str
    change: Mapping[str, Interval]
    why: str | None = None


Tested = tuple[TaskSaid, tables.File]


@router.get("/compare")
def compare_page(
    here: Here,
    request: Request,
    job: Annotated[list[str], Query(max_length=MOST)] = [],  # noqa: B006
) -> Response:
    """Two to six jobs."""
    with here.database.read() as session:
        rows = [asked.find(here, session, one) for one in dict.fromkeys(job)]
        found = [_compared(here, session, *one) for one in zip(LETTERS, rows, strict=False)]
    return show(
        request,
        "compare.html",
        jobs=found,
        differing=[*_differing(found)],
        curves=[*_overlaid(found)],
        against=[*_against(found)],
        pairs=paired_changes(here, rows),
        most=MOST,
    )


def paired_changes(here: Context, rows: Sequence[tables.Job]) -> list[Paired]:
    """Of each job but the first: every metric less that of the first, or why they are not of the same rows."""
    from api.page import paired  # loads numpy, which nothing else of the API does

    found = []
    with here.database.read() as session:
        tests = [_test_rows(session, row) for row in rows]
    for letter, one in zip(LETTERS[1:], tests[1:], strict=False):
        try:
            found.append(Paired(letter, _change(here, tests[0], one)))
        except paired.Unpaired as why:
            found.append(Paired(letter, {}, str(why)))
    return found


def _test_rows(session: Session, job: tables.Job) -> Tested | None:
    """What is asked of the rows, and the file of those that it was measured on, of several sizes of the one to take."""
    report, size = stored(job.metrics), view.taken_size(stored(job.metrics))
    path = f"{size.name}/test.jsonl" if size else "test.jsonl"
    file = next((file for file in queries.files(session, job.id) if file.path == path), None)
    return (report.task, file) if report and file else None


def _change(here: Context, first: Tested | None, second: Tested | None) -> dict[str, Interval]:
    from api.page import paired

    if first is None or second is None:
        raise paired.Unpaired("they have not both been measured")
    if first[0].problem != second[0].problem:
        raise paired.Unpaired("they have other tasks")
    return paired.change(here.storage, first[0], first[1], second[1])


def _compared(here: Context, session: Session, letter: str, job: tables.Job) -> Compared:
    [row] = view.rows_of(here, session, [job])
    names = listing.names(session, here.tenant_id, view.data_of(job.spec))
    settings = {name: names.get(value, value) for name, value in _flat(short(job.spec)) if name not in APART}
    metric = str((job.spec.get("task") or {}).get("metric"))
    events = queries.events(session, job.id, 0, MAX_EVENTS, kind="progress")
    wanted = {f"dev.{name}": name for name in (metric, "loss")}
    told = {(one.stage, one.name): one.points for one in curves(events).series}
    stages = dict.fromkeys(stage for stage, _ in told)
    series = {(at, says): told[at, name] for at in stages for name, says in wanted.items() if (at, name) in told}
    return Compared(letter, row, view.taken(stored(job.metrics)), settings, series)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every value of a specification, by the way to it."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        for i, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{i}]")
    elif isinstance(value, list):
        yield path, ", ".join(map(str, value))
    elif value is not None and path.partition(".")[0] not in APART:
        yield path, str(value)


def _differing(found: Sequence[Compared]) -> Iterator[tuple[str, list[str]]]:
    """Settings that are not the same in all jobs; what is left out is said so."""
    names = dict.fromkeys(name for one in found for name in one.settings)
    for name in names:
        values = [one.settings.get(name, "") for one in found]
        if len(set(values)) > 1:
            yield name, values


def _overlaid(found: Sequence[Compared]) -> Iterator[charts.Chart]:
    """For each stage and metric that several jobs have, one picture."""
    for stage, name in dict.fromkeys(key for one in found for key in one.series):
        series = {one.name: one.series[stage, name] for one in found if (stage, name) in one.series}
        show_as = "{:.3g}".format if name == "loss" else words.value(name)
        if len(series) > 1:
            yield charts.lines(f"{words.stage(stage)}: {words.metric(name)} on dev", series, show_as)


def _against(found: Sequence[Compared]) -> Iterator[charts.Chart]:
    """Quality against bytes, and against milliseconds."""
    made = [(one, one.row.quality, one.result) for one in found]
    known = [(one, quality, result) for one, quality, result in made if quality is not None and result is not None]
    if len(known) < 2 or len({quality.metric for _, quality, _ in known}) > 1:
        return
    metric = known[0][1].metric
    show_as, title = words.value(metric), METRICS.get(metric, metric)
    costs = [
        ("bytes on disk", size, {one.name: float(result.bytes) for one, _, result in known}),
        ("time, batch of 1", words.milliseconds, {one.name: result.latency_ms.get("1", 0) for one, _, result in known}),
    ]
    for x_title, cost, values in costs:
        points = {one.name: [(values[one.name], q.pruned.value, q.pruned.low, q.pruned.high)] for one, q, _ in known}
        if all(values.values()):
            yield charts.against(f"{title} against {x_title}", points, show_as, cost, x_title)
