"""Many small jobs of three tenants through four workers, in containers: `make fleet-load` says how they went.

A job's child is the fake one of tests/worker: a second or two of steps that save their state, and no torch. Beside the
jobs, one client polls and six follow event streams. Three rounds: one worker, four, and four of which one is killed
every 20 seconds. At the end of each, every job has succeeded once, and every stream had each event once.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from statistics import quantiles

import httpx

from tests.fleet.__main__ import ENDED, build
from tests.fleet.bases import ROOT, docker
from tests.fleet.composed import Fleet
from tests.fleet.processes import process
from tests.fleet.site import Watcher, moved_in, upload

PORT = 8013
TENANTS = {"first": 0.6, "second": 0.2, "third": 0.2}  # the share of the jobs that each asks for, in this order
SETTINGS = {"TOPWORK_LEASE_S": "6", "TOPWORK_MAX_RUNNING": "2", "TOPWORK_MAX_ATTEMPTS": "20"}
WORKERS, STREAMS, STEPS = 4, 6, 15
TESTS = ["--volume", f"{ROOT}/tests:/app/tests:ro"]
KILL_EVERY_S = 20.0
POLL_EVERY_S = 0.1
UNTIL_S = 900.0


@dataclass
class Tenant:
    """A client, with a data set."""

    client: httpx.Client
    dataset: str

    def submit(self) -> str:
        """The address of a job that the fake child plays."""
        task = {"data": {"dataset": self.dataset}, "split": {"train": 100, "dev": 100}}
        spec = {"model": "tiny", "task": task, "budget": {"params": 0.5}}
        spec["labels"] = {"do": "succeed", "steps": str(STEPS), "log": "/data/traces"}
        answer = self.client.post("/v1/jobs", json=spec, timeout=60)
        assert answer.status_code == 202, answer.text
        return str(answer.headers["location"])


def tenants(fleet: Fleet) -> dict[str, Tenant]:
    """Three, each with a key and a data set."""
    moved_in(fleet)  # the model
    docker("exec", fleet.container("api.0"), "mkdir", "/data/traces")
    found = {}
    for name in TENANTS:
        key = fleet.once("api", "topwork", "keys", "create", "--tenant", name)
        headers = {"Authorization": f"Bearer {key}"}
        client = httpx.Client(base_url=f"http://127.0.0.1:{PORT}", headers=headers, timeout=60)
        found[name] = Tenant(client, upload(client))
    return found


def polled(asked: Sequence[tuple[Tenant, str]], over: threading.Event) -> list[float]:
    """Ask for a job again and again, each time another, until it is over; how long each answer took, in seconds."""
    rng, took = random.Random(0), []
    while not over.wait(POLL_EVERY_S):
        tenant, address = rng.choice(asked)
        began = time.monotonic()
        tenant.client.get(address).raise_for_status()
        took.append(time.monotonic() - began)
    return took


def killer(fleet: Fleet, over: threading.Event) -> int:
    """Kill a worker every 20 seconds, one after the other, until it is over; how many."""
    killed = 0
    while not over.wait(KILL_EVERY_S):
        subprocess.run(["kill", "-9", process(fleet.container(f"worker.{killed % WORKERS}"))], check=True)
        killed += 1
    return killed


def watched(asked: Sequence[tuple[Tenant, str]]) -> int:
    """Follow the jobs' streams, one after the other; how many events came. AssertionError for a gap or a double."""
    events = 0
    for tenant, address in asked:
        watcher = Watcher(tenant.client, address)
        watcher.run()
        rows = tenant.client.get(f"{address}/events?limit=1000").json()["items"]
        assert watcher.seen == [row["seq"] for row in rows], f"{address}: the stream had {watcher.seen}"
        events += len(rows)
    return events


def round_of(fleet: Fleet, who: Mapping[str, Tenant], jobs: int, kills: bool = False) -> list[str]:
    """Submit the jobs, wait for their ends, check them; what there is to say."""
    began = time.time()
    shares = [(name, round(jobs * share)) for name, share in TENANTS.items()]
    asked = [(name, who[name].submit()) for name, count in shares for _ in range(count)]
    submitted_s = time.time() - began
    open_jobs = [(who[name], address) for name, address in asked]
    over = threading.Event()
    with ThreadPoolExecutor(STREAMS + 2) as pool:
        polls = pool.submit(polled, open_jobs, over)
        killed = pool.submit(killer, fleet, over) if kills else None
        sample = random.Random(1).sample(open_jobs, min(len(open_jobs), 8 * STREAMS))
        streams = [pool.submit(watched, sample[i::STREAMS]) for i in range(STREAMS)]
        try:
            wait_for(who, len(asked), began)
        finally:
            over.set()
        events = sum(stream.result() for stream in streams)
    rows = {name: [ended(who[name], one) for whose, one in asked if whose == name] for name in TENANTS}
    return told(rows, began, submitted_s, polls.result(), events, killed.result() if killed else None)


def wait_for(who: Mapping[str, Tenant], jobs: int, since: float) -> None:
    """Wait until none of the tenants has a job that waits or runs."""
    end = time.monotonic() + UNTIL_S
    while any(
        tenant.client.get(f"/v1/jobs?status={status}&limit=1").json()["items"]
        for tenant in who.values()
        for status in ("queued", "running")
    ):
        assert time.monotonic() < end, f"{jobs} jobs have not ended after {time.time() - since:.0f} s"
        time.sleep(1)


@dataclass(frozen=True)
class End:
    """When a job ended, and in which attempt."""

    at: float
    attempt: int


def ended(tenant: Tenant, address: str) -> End:
    """AssertionError unless it has succeeded, once."""
    job = tenant.client.get(address).json()
    events = tenant.client.get(f"{address}/events?limit=1000").json()["items"]
    ends = [one["data"]["status"] for one in events if one["type"] == "status" and one["data"]["status"] in ENDED]
    assert ends == ["succeeded"], f"{address}: {ends}, {job['error']}"
    return End(datetime.fromisoformat(job["finished_at"]).timestamp(), job["attempt"])


def told(
    rows: Mapping[str, Sequence[End]],
    began: float,
    submitted_s: float,
    polls_s: Sequence[float],
    events: int,
    killed: int | None,
) -> list[str]:
    """The lines."""
    ends = [end for some in rows.values() for end in some]
    took = max(end.at for end in ends) - began
    percent = [1000 * q for q in quantiles(polls_s, n=100)]
    lines = [
        f"{len(ends)} jobs in {took:.0f} s, {60 * len(ends) / took:.0f} a minute; submitted in {submitted_s:.0f} s; "
        f"{sum(end.attempt for end in ends)} attempts",
        f"polls: {len(polls_s)}, median {percent[49]:.0f} ms, 99th percentile {percent[98]:.0f} ms; "
        f"{events} events of streams, each once",
        "jobs ended at a half of that time, and the last: "
        + "; ".join(
            f"{name} {sum(end.at < began + took / 2 for end in some)} of {len(some)}, "
            f"{max(end.at for end in some) - began:.0f} s"
            for name, some in rows.items()
        ),
    ]
    return lines if killed is None else [*lines, f"workers killed: {killed}"]


def main() -> None:
    """Print what each round came to."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--jobs", type=int, default=200, help="of each round with four workers; one has a fifth")
    jobs = options.parse_args().jobs
    build()
    fleet = Fleet("topwork-load", SETTINGS, PORT)
    fleet.services["worker"] |= {"command": ["python", "-m", "tests.worker.fake_worker"]}
    try:
        fleet.up({"worker": 0})
        who = tenants(fleet)
        fleet.until(fleet.start("worker", 0, words=TESTS), "service_healthy")
        show("one worker", round_of(fleet, who, jobs // 5))
        for number in range(1, WORKERS):
            fleet.start("worker", number, words=TESTS)
        for number in range(1, WORKERS):
            fleet.until(f"worker.{number}", "service_healthy")
        show(f"{WORKERS} workers", round_of(fleet, who, jobs))
        show(f"{WORKERS} workers, one killed every {KILL_EVERY_S:g} s", round_of(fleet, who, jobs, kills=True))
    finally:
        fleet.end()


def show(what: str, lines: Sequence[str]) -> None:
    print(f"{what}:", *lines, sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
