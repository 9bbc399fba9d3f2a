"""Commands of one job from its specification to its files: plan, submit, watch, report, download."""

from __future__ import annotations

import json as codec
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from topwork import jobs as calls
from topwork.cli.common import (
    A_JOB,
    STOPPED,
    JobArgument,
    JsonOption,
    ServerOption,
    dump,
    err,
    fail,
    out,
    prose,
    say,
    session,
    usage,
)
from topwork.cli.plan import lines
from topwork.cli.words import following, report_said, result, understood, warnings
from topwork.client import SERVER, Client
from topwork.errors import JobFailed
from topwork.inventory import Dataset
from topwork.models import Job
from topwork.report import FamilyReport
from topwork.spec import filled, named_files, read

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", exists=True, dir_okay=False, help="Job as JSON.")]
DataOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=FILE", help='Upload FILE for {"dataset": "@NAME"}; else "@FILE" is beside the SPEC.'),
]
SizeOption = Annotated[str | None, typer.Option(help="Of a job with several budgets: this one, as params-0.1.")]


def add(app: typer.Typer) -> None:
    """Its commands."""
    for command in (plan, submit, watch, report, download):
        app.command(rich_help_panel=A_JOB)(command)


def plan(spec: SpecFile, data: DataOption = None, json: JsonOption = False, server: ServerOption = SERVER) -> None:
    """What a job would do, without asking for it: rows, budget in reach, time, and what to mind."""
    with session(server) as client:
        found = client.run(calls.post_plan(_body(client, spec, data)))
        if json:
            return dump(found)
        for line in lines(found):
            prose(line)


def submit(
    spec: SpecFile,
    data: DataOption = None,
    title: Annotated[str | None, typer.Option(help="What to call the job.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same submit with the same key makes one job; by default a new key.")
    ] = None,
    json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """Upload data sets (a file that is there already is used again), ask for a job, and print its id."""
    key = idempotency_key
    if key is not None and not (key.isascii() and key.isprintable()):
        fail("--idempotency-key: give visible ASCII characters; a UUID, say", 2)
    with session(server) as client:
        body = _body(client, spec, data)
        body |= {"title": title} if title else {}
        job = client.run(calls.post(body, key))
        if json and not watch:
            return dump(job)
        print(job.id, flush=True, file=sys.stderr if json else sys.stdout)  # of JSON there is one document
        if job.webhook_secret is not None:
            err.print(f"Its webhook's secret, shown this once: {job.webhook_secret}", markup=False, soft_wrap=True)
        if watch:
            _follow(client, job.id, json, job.webhook_secret)


def watch(job: JobArgument, json: JsonOption = False, server: ServerOption = SERVER) -> None:
    """Follow a job to its end. Exits 0 if it succeeded, 3 if not, 4 if the server is away, 130 at Ctrl-C."""
    with session(server) as client:
        _follow(client, client.run(calls.id_of(job)), json)


def report(
    job: JobArgument,
    open: Annotated[bool, typer.Option("--open", help="Show the whole page in a browser.")] = False,
    size: SizeOption = None,
    json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """What a job found: quality, size and speed, dense and pruned."""
    with session(server) as client:
        if json:
            return dump(client.jobs.report(job, size=size))
        found = client.jobs.get(job)
        if open:
            folder = Path(tempfile.mkdtemp(prefix="topwork-"))
            each = found.report.sizes if isinstance(found.report, FamilyReport) and size is None else []
            every = [one.name for one in each if one.result]
            page = folder / "report.html"
            page.write_text(client.jobs.report(found, size=size, html=True), encoding="utf-8")
            for name in every:  # to which that page leads
                (folder / name).mkdir()
                of_size = client.jobs.report(found, size=name, html=True)
                (folder / name / "report.html").write_text(of_size, encoding="utf-8")
            webbrowser.open(page.as_uri())
            return say(str(page))
        if found.report is None:
            fail(f"job {found.id} is {found.status}: only one that has succeeded has a report")
        for line in report_said(found):
            prose(line)
        say(following(found)[0])


def download(
    job: JobArgument,
    folder: Annotated[Path, typer.Argument(file_okay=False, help="Where to put the files; new, or empty.")],
    size: SizeOption = None,
    server: ServerOption = SERVER,
) -> None:
    """Download a job's files and check their sha256. A download that was cut off goes on where it stopped."""
    with session(server) as client:
        files = client.jobs.download(job, folder, size=size)
        say(f"{len(files)} files in {folder}, every sha256 as the server says")
        if "load.py" in files:
            say(f"Load it:  (cd {folder} && python load.py {_example(folder)})")


def _example(folder: Path) -> str:
    """What a downloaded model can be tried on: a picture, or as many texts as it reads together."""
    if (folder / "preprocessor_config.json").is_file():
        return "PICTURE.png"
    manifest = folder / "manifest.json"
    spec = codec.loads(manifest.read_text(encoding="utf-8")).get("spec", {}) if manifest.is_file() else {}
    task = spec.get("task", {})
    together = len(task.get("text") or ["text"]) if task.get("type") != "sentence-similarity" else 1
    return " ".join(["'a text'", "'another'", "'a third'"][:together])


def _body(client: Client, spec: Path, data: list[str] | None) -> dict[str, Any]:
    """The specification as it is sent, its files uploaded."""

    def say_understood(dataset: Dataset) -> None:
        for line in understood(dataset):
            err.print(line, soft_wrap=True, markup=False)

    with usage():
        body = client.run(filled(read(spec), named_files(data or []), spec.parent, say_understood))
    if not isinstance(body, dict):
        fail(f"{spec}: is no JSON object", 2)
    return body


def _follow(client: Client, job_id: str, json: bool, secret: str | None = None) -> None:
    try:
        job = client.jobs.wait(job_id, progress=not json)
    except KeyboardInterrupt:
        err.print(f"\nStopped watching; the job goes on. To come back: topwork watch {job_id}", soft_wrap=True)
        err.print(f"To end it: topwork cancel {job_id}", soft_wrap=True)
        raise typer.Exit(STOPPED) from None
    except JobFailed as error:
        if json:
            dump(error.job)
        raise
    if json:
        return dump(job if secret is None else job.model_dump(mode="json") | {"webhook_secret": secret})
    _ended(job)


def _ended(job: Job) -> None:
    for told in warnings(job):
        out.print(told, markup=False, soft_wrap=True)
    if made := result(job):
        say("\n".join([made, *following(job)]))
