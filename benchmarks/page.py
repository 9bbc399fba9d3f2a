"""What the page costs: the server's CPU time and bytes of each page, and of those who watch a job.

    python -m benchmarks.page

The API has one core, who asks another, as in `benchmarks.api`, whose ledgers these are: of 10 and of 100,000 jobs, in
one run, in turns. Loopback, SQLite. Writes benchmarks/results/page.md.
"""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from sqlalchemy import update

from benchmarks.api.house import CLIENT_CORE, FEW, MANY, House
from benchmarks.api.load import cpu_seconds
from benchmarks.api.parts import EVENTS, PERIOD_S, WATCHERS, watch
from core.ledger import datasets
from core.ledger.jobs import attempts, queries
from core.ledger.tables import DEFAULT_TENANT, Job
from core.spec.job import JobSpec
from tests.api.conftest import MODEL, reviews, write_model
from tests.reports import report

ROUNDS, ASKED = 5, 20  # requests of a round
CURVE = {"points": [{"step": 10 * i, "accuracy": 0.5 + i / 250, "loss": 1.0} for i in range(100)]}
BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}

Table = dict[str, dict[str, tuple[float, float, int]]]  # page -> ledger -> CPU ms, ms, bytes


def prepared(house: House) -> dict[str, str]:
    """Pages of a ledger: by name, their addresses. The newest jobs have reports, and ids of data."""
    house.environment["TOPWORK_LOG"] = "warning"
    write_model(house.settings.models_dir / MODEL)
    file = house.folder / "rows.csv"
    file.write_bytes(reviews(200))
    data = datasets.ingest([file], "product reviews.csv", house.storage, house.settings, DEFAULT_TENANT)
    told = report(curves={"teach": CURVE, "recover": CURVE})
    with house.database.begin() as session:
        session.add(data)
        session.flush()
        newest = [job.id for job in queries.page(session, DEFAULT_TENANT, 2000)]
        spec = JobSpec.model_validate(
            {"model": MODEL, "task": {"data": {"dataset": data.id}}, "budget": {"params": 0.1}}
        )
        session.execute(update(Job).where(Job.id.in_(newest)).values(spec=spec.model_dump(mode="json")))
        ended = update(Job).where(Job.id.in_(newest), Job.status == "succeeded")
        session.execute(ended.values(metrics=told))
    for step in range(100):
        said = {"event": "progress", "stage": "recover", "step": step, "steps": 100, "overall": 0.45 + step / 200}
        with house.database.begin() as session:
            attempts.report(session, house.job_id, 1, said | {"dev": {"accuracy": 0.5 + step / 250, "loss": 1.0}})
    done = next(i for i in newest if i not in house.job_ids) if len(newest) > FEW else house.job_ids[-1]
    return {
        "jobs": "/",
        "jobs, page 2,000": "/?page=2000",
        "jobs that run": "/?status=running",
        "jobs, by words": "/?q=reviews",
        "jobs, by words that none has": "/?q=nothing",
        "jobs, by quality": "/?sort=quality",
        "a job that runs": f"/jobs/{house.job_id}",
        "its live part, shared": f"/jobs/{house.job_id}/live",
        "a job that has ended": f"/jobs/{done}",
        "two side by side": f"/compare?job={house.job_ids[0]}&job={house.job_ids[1]}",
        "new job": f"/new?data={data.id}",
        "data sets": "/data",
        "models": "/models",
        "workers": "/workers",
        "the style, the script": "/static/page.css",
    }


def pages(folder: Path) -> Table:
    """Every page on both ledgers, in turns."""
    found: dict[str, dict[str, list[tuple[float, float, int]]]] = {}
    with ExitStack() as stack:
        arms = []
        for count in (FEW, MANY):
            house = House(folder / str(count), None, count)
            addresses = prepared(house)
            address, process = stack.enter_context(house.api())
            client = stack.enter_context(httpx.Client(base_url=address, headers=house.headers | BROWSER, timeout=60))
            arms.append((f"{count:,} jobs", addresses, process.pid, client))
        for _ in range(ROUNDS):
            for name in arms[0][1]:
                for ledger, addresses, pid, client in arms:
                    found.setdefault(name, {}).setdefault(ledger, []).append(asked(client, pid, addresses[name]))
    return {name: {ledger: _middle(rounds) for ledger, rounds in of.items()} for name, of in found.items()}


def asked(client: httpx.Client, pid: int, address: str) -> tuple[float, float, int]:
    """CPU ms of the server, ms until the answer is there (median), and bytes."""
    client.get(address).raise_for_status()
    before, took = cpu_seconds(pid), []
    for _ in range(ASKED):
        answer = client.get(address)
        took.append(answer.elapsed.total_seconds() * 1000)
    return 1000 * (cpu_seconds(pid) - before) / ASKED, median(took), len(answer.content)


def _middle(rounds: list[tuple[float, float, int]]) -> tuple[float, float, int]:
    cpu, ms, size = zip(*rounds, strict=True)
    return median(cpu), median(ms), int(median(size))


def watchers(folder: Path) -> Mapping[str, float]:
    """Share of a core: of event streams, and of browsers, which have the stream of the page."""
    shares = {}
    for name, looking in (("event streams", False), ("browsers", True)):
        house = House(folder / name, None, FEW)
        house.environment["TOPWORK_LOG"] = "warning"
        with house.api() as (address, process):
            before = cpu_seconds(process.pid)
            asyncio.run(_watch(house, address, looking))
            shares[name] = (cpu_seconds(process.pid) - before) / (EVENTS * PERIOD_S)
    return shares


async def _watch(house: House, address: str, looking: bool) -> None:
    """As `watch`; of those who are `looking`, each has the stream of the page."""
    arrived, _ = await watch(house, address, "/jobs/{}/stream" if looking else "/v1/jobs/{}/events")
    assert len(arrived) == WATCHERS


def tell(table: Table, shares: Mapping[str, float]) -> str:
    """The page of results."""
    ledgers = [*next(iter(table.values()))]
    head = " | ".join(f"CPU ms, {one} | ms, {one} | bytes, {one}" for one in ledgers)
    lines = [
        "# What the page costs",
        "",
        f"`make bench-page`: one core for one API process, SQLite, python {platform.python_version()}, on "
        f"{os.cpu_count()} cores, {platform.machine()}. Medians of {ROUNDS} rounds of {ASKED} requests, with a key. "
        "All of the 10 jobs run: there, the one that has ended does, too.",
        "",
        f"| page | {head} |",
        "| --- |" + " ---: |" * (3 * len(ledgers)),
        *(f"| {name} | {' | '.join(_cells(of[one]) for one in ledgers)} |" for name, of in table.items()),
        "",
        f"{WATCHERS} who watch one job, an event each {PERIOD_S:g} s: "
        + ", ".join(f"{name} {share:.0%} of a core" for name, share in shares.items())
        + ".",
        "",
    ]
    return "\n".join(lines)


def _cells(numbers: tuple[float, float, int]) -> str:
    cpu, ms, size = numbers
    return f"{cpu:.1f} | {ms:.1f} | {size:,}"


def main() -> None:
    """Measure, write, print."""
    os.sched_setaffinity(0, {CLIENT_CORE})
    with tempfile.TemporaryDirectory(prefix="topwork-") as folder:
        found: Any = pages(Path(folder))
        text = tell(found, watchers(Path(folder)))
    (Path(__file__).parent / "results" / "page.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
