"""`topwork demo`: the main job from end to end, through what any user has: the command line and the API."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.client import Client, download_all
from cli.fetch import MODEL, fetch
from cli.processes import start, stop
from cli.watch import failure, follow
from core.spec.report import Report

BUDGET = {"params": 0.1, "of": "encoder"}
SPLIT = {"train": 100, "dev": 100}
READY_WITHIN_S = 60.0
HEADINGS = (
    "model",
    "accuracy (95 % interval)",
    "encoder params",
    "all params",
    "MB on disk",
    "ms, batch 1",
    "ms, batch 32",
    "speed-up 1 / 32",
)


class DemoError(Exception):
    """A step of the demo went wrong; the message says which and why."""


def run(data_dir: Path, seed: int, keep: bool, console: Console) -> None:
    """All of it; raises DemoError, FetchError or ApiError."""
    began = time.monotonic()
    step = _Steps(console)
    step("Fetch the model and the data")
    fetch(data_dir, lambda line: console.print(line, soft_wrap=True))
    step("Start the server")
    with _server(data_dir, keep, console) as client:
        client.cancel_all()  # of a demo that was cut off
        products = client.upload(data_dir / "demo" / "products.csv")
        movies = client.upload(data_dir / "demo" / "movies.csv")
        console.print(f"target: {products['rows']:,} rated product sentences; source: {movies['rows']:,} of movies")
        step("Prune to a tenth of the encoder, with 100 labelled rows: without transfer, and with")
        asked = specs(str(products["id"]), str(movies["id"]), seed)
        ids = {name: str(client.submit(spec, str(uuid.uuid4()))["id"]) for name, spec in asked.items()}
        jobs = follow(client, ids, console)
        if reasons := [reason for job in jobs.values() if (reason := failure(job))]:
            raise DemoError("\n".join(reasons))
        step("Download both checkpoints and check every sha256")
        folders = {name: data_dir / "demo-checkpoints" / job_id for name, job_id in ids.items()}
        for name, job_id in ids.items():
            files = download_all(client, job_id, folders[name])
            console.print(f"{name}: {len(files)} files in {folders[name]}", soft_wrap=True)
        reports = {}
        for name, folder in folders.items():
            found = json.loads((folder / "report.json").read_bytes())
            if jobs[name]["metrics"] != found:
                raise DemoError(f"{name}: report.json is not what the job said")
            reports[name] = Report.model_validate(found)
    step("Load both in a new process, and measure them on the same test rows")
    same_test_rows(list(folders.values()))
    measured = measure(list(folders.values()))
    rows = []
    for name, folder in folders.items():
        compare(name, reports[name], measured[str(folder)])
        rows += table_rows(name, reports[name], measured[str(folder)], measured["dense"])
    show(rows, reports, data_dir / "demo" / "table.md", console, time.monotonic() - began)


def specs(target: str, source: str, seed: int) -> dict[str, dict[str, Any]]:
    """The two jobs: alike but for the source."""
    plain = {
        "model": MODEL,
        "task": {"data": {"dataset": target}, "split": SPLIT},
        "budget": BUDGET,
        "transfer": {"coupling": "none"},
        "train": {"seed": seed},
        "labels": {"demo": "without transfer"},
    }
    source_data = [{"data": {"dataset": source}, "label": "label"}]
    coupling = {"coupling": "teacher"}  # named, since the trials of `auto` would take as long again
    transfer = {**plain, "sources": source_data, "transfer": coupling, "labels": {"demo": "with transfer"}}
    return {"without transfer": plain, "with transfer": transfer}


def same_test_rows(folders: list[Path]) -> None:
    """Raises DemoError unless every checkpoint was measured on the same rows."""
    contents = []
    for folder in folders:
        with (folder / "test.jsonl").open(encoding="utf-8") as lines:
            contents.append([(row["text"], row["label"]) for row in map(json.loads, lines)])
    if any(sorted(content) != sorted(contents[0]) for content in contents):
        raise DemoError("the two jobs were measured on different test rows")


def measure(folders: list[Path]) -> dict[str, Any]:
    """What a fresh process finds in the downloads; it knows nothing of the server."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOPWORK_")}
    command = [sys.executable, "-m", "cli.measure", *map(str, folders)]
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


def table_rows(name: str, report: Report, found: Mapping[str, Any], dense: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Two rows of the table: the job's dense teacher, and what it was pruned to."""
    rows: list[tuple[str, ...]] = []
    models = {"dense teacher": (report.results.dense, dense), "pruned": (report.results.pruned, found)}
    for kind, (result, measured) in models.items():
        latency = measured["latency_ms"]
        quality = result.test["accuracy"]
        speedup = " / ".join(f"{dense['latency_ms'][size] / latency[size]:.1f}x" for size in ("1", "32"))
        rows.append(
            (
                f"{kind}, {name}",
                f"{quality.value:.1%} ({quality.low:.1%} to {quality.high:.1%})",
                f"{result.encoder_params:,}",
                f"{result.model_params:,}",
                f"{result.bytes / 1e6:.1f}",
                f"{latency['1']:.1f}",
                f"{latency['32']:.1f}",
                speedup,
            )
        )
    return rows


def show(
    rows: list[tuple[str, ...]],
    reports: Mapping[str, Report],
    target: Path,
    console: Console,
    seconds: float,
) -> None:
    """The table on the screen and, as Markdown, in `target`."""
    one, other = reports.values()
    gain = _accuracy(other) - _accuracy(one)
    notes = [f"Mind, {name}: {said}." for name, report in reports.items() for said in report.warnings] + [
        f"Measured on {one.data.test:,} held-out rows; trained on {one.data.train}. Latency: one pass at "
        f"128 tokens on {one.environment.device}, medians, all models in turn.",
        f"Transfer changes the pruned model's accuracy by {100 * gain:+.1f} points. Took {seconds / 60:.1f} minutes.",
    ]
    table = Table(title=f"{MODEL}, pruned to {one.budget.fraction:.1%} of its encoder")
    for i, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # A pipe is as wide as it needs to be; 80 columns would fold the table.
    (console if console.is_terminal else Console(width=160, highlight=False)).print(table)
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
    lines = [" | ".join(HEADINGS), " | ".join(["---"] + ["---:"] * (len(HEADINGS) - 1)), *(" | ".join(r) for r in rows)]
    target.write_text("\n".join(f"| {line} |" for line in lines) + "\n\n" + "\n".join(notes) + "\n", encoding="utf-8")
    console.print(f"The table as Markdown: {target}", soft_wrap=True)


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
            while not client.ready():
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
