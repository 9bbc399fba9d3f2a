"""Commands of jobs that are there: jobs, show, compare, cancel, retry, delete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any

import typer
from rich.table import Table

from topwork.cli.common import (
    THERE,
    JobArgument,
    JsonOption,
    ServerOption,
    dump,
    fail,
    out,
    plain,
    prose,
    require_answers,
    say,
    session,
)
from topwork.cli.words import numbers, result, short, warnings
from topwork.client import SERVER
from topwork.models import Job
from topwork.progress import describe, duration, failure, overall

ID_CHARS = 8  # of an id's end: enough to name one
APART = ("title", "priority")  # of a job's place, not of what it does
COMPARED = 4  # at most: what fits 80 columns


def add(app: typer.Typer) -> None:
    """Its commands."""
    for command in (jobs, show, compare, cancel, retry, delete):
        app.command(rich_help_panel=THERE)(command)


def jobs(
    status: Annotated[str | None, typer.Option(help="queued, running, succeeded, failed or cancelled.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY:VALUE", help="That have this label.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
    json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """List jobs, newest first. The end of an id is enough to name a job elsewhere."""
    labels = {key: value for key, _, value in (one.partition(":") for one in label or ())}
    with session(server) as client:
        found = list(islice(client.jobs.list(status=status, labels=labels), limit))
        if json:
            return dump(found)
        if not found:
            return say("There are no jobs" + (" like this." if status or label else " yet: topwork new FILE.csv"))
        table = Table(box=None, pad_edge=False)
        for heading in ("id", "status", "title", "result", "took"):
            table.add_column(heading, no_wrap=heading != "title", overflow="fold", min_width=ID_CHARS)
        for job in found:
            table.add_row(*plain(job.id[-ID_CHARS:], _status(job), short(job.title, 80), _result(job), _took(job)))
        out.print(table)


def _status(job: Job) -> str:
    return f"{job.status} {overall(job):.0%}" if job.status == "running" else job.status


def _result(job: Job) -> str:
    found = numbers(job)
    names = [name for name in found if name.endswith((", dense", ", pruned"))]
    return " -> ".join(found[name] for name in names)


def _took(job: Job) -> str:
    if job.started_at is None or job.finished_at is None:
        return ""
    return duration((job.finished_at - job.started_at).total_seconds())


def show(job: JobArgument, json: JsonOption = False, server: ServerOption = SERVER) -> None:
    """One job: how it stands, what it asks, what it found."""
    with session(server) as client:
        found = client.jobs.get(job)
        if json:
            return dump(found)
        parts = {"job": found.id, "title": found.title, "status": _status(found), **describe(found)}
        parts |= {"created": f"{found.created_at:%Y-%m-%d %H:%M} UTC", "took": _took(found)}
        for name, value in parts.items():
            if value:
                prose(f"{name:9} {value}")
        for line in filter(None, [*warnings(found), result(found), failure(found) if found.ended else None]):
            prose(line)


def compare(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB JOB...", help="Two to four jobs.")],
    json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """What jobs have found, side by side, and in what their settings differ."""
    if not 2 <= len(jobs) <= COMPARED:
        fail(f"give two to {COMPARED} jobs", 2)
    with session(server) as client:
        found = [client.jobs.get(job) for job in jobs]
        rows = _compared(found)
        if json:
            return dump({job.id: {name: row[i] for name, row in rows.items()} for i, job in enumerate(found)})
        table = Table(box=None, pad_edge=False)
        table.add_column("", overflow="fold")
        for job in found:
            table.add_column(*plain(f"{short(job.title, 40)}\n{job.id[-ID_CHARS:]}"), overflow="fold")
        for name, row in rows.items():
            table.add_row(*plain(name, *("" if value is None else short(str(value)) for value in row)))
        out.print(table)


def _compared(found: Sequence[Job]) -> dict[str, list[Any]]:
    """What was found, then the settings that differ: name -> a value for each job."""
    results = [{"status": job.status, **numbers(job), "took": _took(job) or None} for job in found]
    settings = [dict(_leaves("", job.spec)) for job in found]
    differ = {
        name: row
        for name, row in _rows(settings).items()
        if any(value != row[0] for value in row) and name not in APART
    }
    return _rows(results) | differ


def _rows(columns: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for column in columns for name in column)
    return {name: [column.get(name) for column in columns] for name in names}


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from _leaves(f"{name}.{key}" if name else key, child)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for i, child in enumerate(value):
            yield from _leaves(f"{name}.{i}", child)
    elif value is not None:
        yield name, value


def cancel(job: JobArgument, json: JsonOption = False, server: ServerOption = SERVER) -> None:
    """Stop a job. One that is running is `cancelling` until its worker has stopped it."""
    with session(server) as client:
        found = client.jobs.cancel(job)
        return dump(found) if json else say(f"{found.id} is {found.status}\ntopwork retry {found.id}")


def retry(job: JobArgument, json: JsonOption = False, server: ServerOption = SERVER) -> None:
    """Queue a job again that failed or was cancelled; it goes on where it had saved its state."""
    with session(server) as client:
        found = client.jobs.retry(job)
        return dump(found) if json else say(f"{found.id} is {found.status}\ntopwork watch {found.id}")


def delete(
    job: JobArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """Forget a job that has ended, with its files."""
    with session(server) as client:
        found = client.jobs.get(job)
        if not yes:
            require_answers()
            if not typer.confirm(f"Delete {found.id} ({short(found.title)}) and its files?", err=True):
                fail("nothing was deleted")
        client.jobs.delete(found)
        return dump({"deleted": found.id}) if json else say(f"{found.id} is deleted")
