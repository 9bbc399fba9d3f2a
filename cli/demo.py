"""`topwork demo`: one job with and without transfer, from end to end, through what any user has: command line and API.

What it prunes is a `Demo`: cli/demo_texts.py, cli/demo_images.py.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.processes import start, stop
from core.spec.report import Report, Result
from topwork.client import Client
from topwork.progress import failure
from topwork.report import milliseconds

READY_WITHIN_S = 60.0
BUSY = 0.1  # part of the time of measuring from which on it is doubted
WIDE = 160  # columns
WITHOUT, WITH = "without transfer", "with transfer"
ACCURACY = "accuracy (95 % interval)"  # the table's second column


class DemoError(Exception):
    """A step of the demo went wrong; the message says which and why."""


@dataclass(frozen=True)
class Demo:
    """A pair of data sets, and the two jobs that are run on them."""

    fetch: Callable[[Path, Callable[[str], None]], tuple[Path, Path]]  # data folder -> files of target and source
    rows: str  # what target and source have, with a place for each number
    asked: str  # what the jobs are to do
    job: Mapping[str, Any]  # of both: all but data, transfer, seed
    measure: Callable[[Path, Sequence[Path]], list[str]]  # target's file, checkpoints -> arguments of a new process
    headings: Sequence[str]  # of `cells`
    cells: Callable[[Result], Sequence[str]]  # what there is of a model, in words
    title: Callable[[Report], str]
    latency: str  # how it was measured
    table: str  # the file in the demo folder


def run(demo: Demo, data_dir: Path, seed: int, keep: bool, console: Console) -> None:
    """All of it; raises DemoError, FetchError or ApiError."""
    began = time.monotonic()
    step = _Steps(console)
    step("Fetch the model and the data")
    target_file, source_file = demo.fetch(data_dir, lambda line: console.print(line, soft_wrap=True))
    step("Start the server")
    with _server(data_dir, keep, console) as client:
        _cancel(client)
        target, source = client.data.upload(target_file), client.data.upload(source_file)
        console.print(demo.rows.format(target.rows, source.rows))
        step(f"{demo.asked}: without transfer, and with")
        asked = specs(demo.job, target.id, source.id, seed)
        ids = {name: client.jobs.submit(spec).id for name, spec in asked.items()}
        jobs = client.jobs.follow(ids, progress=True)
        if reasons := [reason for job in jobs.values() if (reason := failure(job))]:
            raise DemoError("\n".join(reasons))
        step("Download both checkpoints and check every sha256")
        folders = {name: data_dir / "demo-checkpoints" / job_id for name, job_id in ids.items()}
        for name, job_id in ids.items():
            files = client.jobs.download(job_id, folders[name])
            console.print(f"{name}: {len(files)} files in {folders[name]}", soft_wrap=True)
        reports = {}
        for name, folder in folders.items():
            found = json.loads((folder / "report.json").read_bytes())
            if jobs[name].metrics != found:
                raise DemoError(f"{name}: report.json is not what the job said")
            reports[name] = Report.model_validate(found)
    step("Load both in a new process, and measure them on the same test rows")
    same_test_rows(list(folders.values()))
    measured = measure(demo.measure(target_file, list(folders.values())))
    rows = []
    for name, folder in folders.items():
        compare(name, reports[name], measured[str(folder)])
        rows += table_rows(demo, name, reports[name], measured[str(folder)], measured["dense"])
    busy = float(measured["dense"]["waited"])
    show(demo, rows, reports, busy, data_dir / "demo" / demo.table, console, time.monotonic() - began)
    for line in following(folders[WITH], data_dir, keep):
        console.print(line, soft_wrap=True, markup=False)


def specs(job: Mapping[str, Any], target: str, source: str, seed: int) -> dict[str, dict[str, Any]]:
    """The two jobs: alike but for the source."""
    plain = {
        **job,
        "task": {**job["task"], "data": {"dataset": target}},
        "transfer": {"coupling": "none"},
        "train": {**job.get("train", {}), "seed": seed},
        **_named(WITHOUT),
    }
    source_data = [{"data": {"dataset": source}, "label": "label"}]
    coupling = {"coupling": "teacher"}  # named, since the trials of `auto` would take as long again
    transfer = {**plain, "sources": source_data, "transfer": coupling, **_named(WITH)}
    return {WITHOUT: plain, WITH: transfer}


def _named(which: str) -> dict[str, Any]:
    return {"labels": {"demo": which}, "title": f"demo, {which}"}


def _cancel(client: Client) -> None:
    """Stop what a demo that was cut off has left: nobody else's jobs."""
    for which in (WITHOUT, WITH):
        for job in client.jobs.list(labels={"demo": which}):
            if not job.ended:
                client.jobs.cancel(job)


def same_test_rows(folders: list[Path]) -> None:
    """Raises DemoError unless every checkpoint was measured on the same rows."""
    contents = []
    for folder in folders:
        with (folder / "test.jsonl").open(encoding="utf-8") as lines:
            contents.append([(row.get("text", row.get("image")), row["label"]) for row in map(json.loads, lines)])
    if any(sorted(content) != sorted(contents[0]) for content in contents):
        raise DemoError("the two jobs were measured on different test rows")


def measure(arguments: list[str]) -> dict[str, Any]:
    """What a fresh process finds in the downloads; it knows nothing of the server."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOPWORK_")}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(
        command, env={**environment, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DemoError(f"the checkpoints do not load in a new process:\n{done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(name: str, report: Report, found: Mapping[str, Any]) -> None:
    """Raises DemoError unless the download is the model that the report speaks of."""
    pruned = report.results.pruned
    for what, reported in (("accuracy", pruned.test["accuracy"].value), ("model_params", pruned.model_params)):
        if found[what] != reported:
            raise DemoError(f"{name}: the report says {what} {reported}, the download gives {found[what]}")


def table_rows(
    demo: Demo, name: str, report: Report, found: Mapping[str, Any], dense: Mapping[str, Any]
) -> list[tuple[str, ...]]:
    """Two rows of the table: the job's dense teacher, and what it was pruned to."""
    rows: list[tuple[str, ...]] = []
    models = {"dense teacher": (report.results.dense, dense), "pruned": (report.results.pruned, found)}
    for kind, (result, measured) in models.items():
        latency, quality = measured["latency_ms"], result.test["accuracy"]
        told = f"{quality.value:.1%} ({quality.low:.1%} to {quality.high:.1%})"
        speedup = " / ".join(f"{dense['latency_ms'][size] / latency[size]:.1f}x" for size in ("1", "32"))
        times = (milliseconds(latency["1"]), milliseconds(latency["32"]), speedup)
        rows.append((f"{kind}, {name}", told, *demo.cells(result), f"{result.bytes / 1e6:.1f}", *times))
    return rows


def show(
    demo: Demo,
    rows: list[tuple[str, ...]],
    reports: Mapping[str, Report],
    busy: float,
    target: Path,
    console: Console,
    seconds: float,
) -> None:
    """The table on the screen and, as Markdown, in `target`."""
    one, other = reports.values()
    gain = _accuracy(other) - _accuracy(one)
    notes = [f"Mind, {name}: {said}." for name, report in reports.items() for said in report.warnings]
    if busy > BUSY:
        notes.append(
            f"Mind: this machine was busy: while these milliseconds were measured, {busy:.0%} of the time went by "
            "waiting for a core. Do not believe them; run it again on a quiet machine."
        )
    notes += [
        f"Measured on {one.data.test:,} held-out rows; trained on {one.data.train}. Latency: {demo.latency} on "
        f"{one.environment.device}, the lower quartile of passes, all models in turn.",
        f"Transfer changes the pruned model's accuracy by {100 * gain:+.1f} points. Took {seconds / 60:.1f} minutes.",
    ]
    headings = ("model", ACCURACY, *demo.headings, "MB on disk", "ms, batch 1", "ms, batch 32", "speed-up 1 / 32")
    table = Table(title=demo.title(one))
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # A pipe is as wide as it needs to be; 80 columns would fold the table.
    if console.is_terminal and console.width < WIDE:
        console.print(_turned(headings, rows))
    else:
        (console if console.is_terminal else Console(width=WIDE, highlight=False)).print(table)
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
    lines = [" | ".join(headings), " | ".join(["---"] + ["---:"] * (len(headings) - 1)), *(" | ".join(r) for r in rows)]
    target.write_text("\n".join(f"| {line} |" for line in lines) + "\n\n" + "\n".join(notes) + "\n", encoding="utf-8")
    console.print(f"The table as Markdown: {target}", soft_wrap=True)


def _turned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The table with a column for each model, for a narrow terminal."""
    table = Table("", *(row[0] for row in rows))
    for heading, *values in zip(headings[1:], *(row[1:] for row in rows), strict=True):
        table.add_row(heading, *values)
    return table


def following(folder: Path, data_dir: Path, keep: bool) -> list[str]:
    """What to look at, and to do, next."""
    topwork = "topwork" if shutil.which("topwork") else str(Path(sys.executable).with_name("topwork"))
    command = "" if keep else f"{topwork} serve --data-dir {data_dir}   # with what was made: {topwork} jobs\n"
    given, own = "'Sturdy, and it does what it says.'", "FILE.csv --unlabelled TEXTS.csv"
    if (folder / "preprocessor_config.json").is_file():
        given, own = "PICTURE.png", "FILE.zip --unlabelled PICTURES.zip"
    return [
        f"The whole report, a page for a browser: {(folder / 'report.html').resolve()}",
        f"Try it: (cd {folder} && python load.py {given})",
        f"Then, with your own data:\n{command}{topwork} new {own}",
    ]


def _accuracy(report: Report) -> float:
    return report.results.pruned.test["accuracy"].value


class _Steps:
    def __init__(self, console: Console) -> None:
        self._console, self._number = console, 0

    def __call__(self, what: str) -> None:
        self._number += 1
        self._console.print(f"\n[bold]{self._number}. {what}[/bold]")


@contextmanager
def _server(data_dir: Path, keep: bool, console: Console) -> Iterator[Client]:
    """A client of a `topwork serve` of our own on a free port; it ends with the demo unless `keep`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = data_dir / "serve.log"
    log.unlink(missing_ok=True)
    own = ("TOPWORK_DATABASE_URL", "TOPWORK_BROKER_URL", "TOPWORK_DATA_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    command = [sys.executable, "-m", "cli", "serve", "--port", str(port), "--data-dir", str(data_dir)]
    process = start(command, environment, log, tied=not keep)
    url = f"http://127.0.0.1:{port}"
    done = False
    try:
        with Client(url) as client:
            deadline = time.monotonic() + READY_WITHIN_S
            while not client.server.ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise DemoError(f"the server does not start; its log, {log}:\n{log.read_text()[-2000:]}")
                time.sleep(0.2)
            console.print(f"{url} is ready (its log: {log})", soft_wrap=True)
            yield client
            done = True
    finally:
        if keep and done:
            console.print(f"The server goes on: {url}, pid {process.pid} (kill {process.pid} ends it)")
        else:
            stop([process], 30)
