"""What it costs to run the service, each number beside something bare that does the same work.

    python -m benchmarks.api [polls] [submit] [events] [download] [memory]

The API has one core; who asks (wrk), and PostgreSQL, have another. Arms take turns, so that whatever else the machine
does hits all alike, and a ratio is that of one turn. Loopback only. Without arguments every part is measured (about
six minutes); parts that are left out keep their numbers. Writes benchmarks/results/api.{json,md}.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.api.house import (
    CLIENT_CORE,
)
from benchmarks.api.load import CLIENTS
from benchmarks.api.parts import DOWNLOAD_BYTES, IDLE_S, PARTS, PERIOD_S

RESULTS = Path(__file__).parents[1] / "results"


def ratio(row: dict[str, Any]) -> str:
    """The median, and the range over the turns."""
    return f"{row['ratio']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f})"


def tell(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    versions = ", ".join(f"{name} {number}" for name, number in found["environment"]["versions"].items())
    lines = [
        "# What the API costs",
        "",
        f"`make bench-api`: one core for one API process; the clients, and PostgreSQL, have the other. {versions}, on "
        f"{found['environment']['machine']}.",
        "Medians; a ratio is to the first row of its table, in the same turn, with its range over the turns.",
        "",
    ]
    if rows := found.get("polls"):
        lines += [
            f"## Polls: GET /v1/jobs/{{id}} of running jobs, with a key, {CLIENTS} clients without a pause",
            "",
            "The bare route is a FastAPI application of one route that returns the same bytes, without a key. Other "
            "load on the machine changes CPU time least: where there is any, compare that, not the rates.",
            "",
            "| | a second | p50 ms | p99 ms | CPU ms of the API | ratio to the bare route |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
            *(
                f"| {name} | {row['per_s']:,.0f} | {row['p50_ms']:.1f} | {row['p99_ms']:.1f} | {row['cpu_ms']:.2f} "
                f"| {ratio(row)} |"
                for name, row in rows.items()
            ),
            "",
        ]
    if rows := found.get("submit"):
        lines += [
            f"## Submits: POST /v1/jobs, checked against 1,000 rows and a model, {CLIENTS} clients without a pause",
            "",
            "| | a second | p50 ms | p99 ms | CPU ms of the API |",
            "| --- | ---: | ---: | ---: | ---: |",
            *(
                f"| {name} | {row['per_s']:,.0f} | {row['p50_ms']:.1f} | {row['p99_ms']:.1f} | {row['cpu_ms']:.2f} |"
                for name, row in rows.items()
            ),
            "",
        ]
    if row := found.get("events"):
        lines += [
            "## Event streams",
            "",
            f"{row['watchers']} watchers of one job, {row['events']} events, one each {PERIOD_S:g} s (SQLite): "
            f"{row['got_every_event_once']} got every event once, in order. Delay from the commit: "
            f"{row['delay_p50_ms']:.0f} ms (median), {row['delay_p99_ms']:.0f} ms (p99), at "
            f"{row['share_of_core']:.0%} of the core.",
            "",
        ]
    if rows := found.get("download"):
        lines += [f"## Download of a file of {DOWNLOAD_BYTES // 10**6} MB, one client", ""]
        if rows["nginx"] is None:
            lines += ["There was no nginx to compare with.", ""]
        else:
            lines += [
                "| | MB/s | ratio to nginx |",
                "| --- | ---: | ---: |",
                *(f"| {name} | {row['mb_per_s']:,.0f} | {ratio(row)} |" for name, row in rows.items()),
                "",
            ]
    if rows := found.get("memory"):
        lines += [
            f"## Memory of a process that has been idle for {IDLE_S:g} s",
            "",
            "| | resident MB | proportional MB | torch loaded |",
            "| --- | ---: | ---: | --- |",
            *(
                f"| {name} | {row['rss_mb']:.0f} | {row['pss_mb']:.0f} | {'yes' if row['torch'] else 'no'} |"
                for name, row in rows.items()
            ),
            "",
        ]
    return "\n".join(lines)


def main(names: Sequence[str]) -> None:
    """Measure, write, print."""
    os.sched_setaffinity(0, {CLIENT_CORE})
    file = RESULTS / "api.json"
    found = json.loads(file.read_text()) if file.exists() and names else {}
    for name in names or PARTS:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="topwork-") as folder:
            found[name] = PARTS[name](Path(folder))
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    packages = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "pydantic", "psycopg")
    found["environment"] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }
    file.write_text(json.dumps(found, indent=2) + "\n")
    text = tell(found)
    file.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
