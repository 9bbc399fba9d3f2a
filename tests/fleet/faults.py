"""Faults between machines, with containers: `make fleet-faults` says of each what became of the job.

A tiny model is pruned for about a minute by two workers; meanwhile a part is killed, frozen, cut off or wiped. However
that goes, the job has to end well, once, and not begin from nothing where it had saved its state.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.fleet.__main__ import ENDED, build
from tests.fleet.bases import docker
from tests.fleet.composed import Fleet
from tests.tiny import rows, save_tiny_model

PORT = 8012
LEASE_S = 6
STEPS = {"teach": 400, "recover": 1500}
UNTIL_S = 400.0


@dataclass
class Site:
    """A fleet, and a client of it."""

    fleet: Fleet
    client: httpx.Client
    dataset: str

    def get(self, address: str) -> dict[str, Any]:
        """The answer; asked again while the API is away."""
        end = time.monotonic() + UNTIL_S
        while True:
            with suppress(httpx.TransportError, httpx.HTTPStatusError):
                found: dict[str, Any] = self.client.get(address, timeout=20).raise_for_status().json()
                return found
            assert time.monotonic() < end, f"{address} does not answer"
            time.sleep(1)

    def submit(self) -> str:
        """The address of a job that takes about a minute."""
        task = {"data": {"dataset": self.dataset}, "split": {"train": 100, "dev": 100}}
        spec = {"model": "tiny", "task": task, "budget": {"params": 0.5}, "train": {"steps": STEPS}}
        answer = self.client.post("/v1/jobs", json=spec, timeout=60)
        assert answer.status_code == 202, answer.text
        return str(answer.headers["location"])

    def until(self, address: str, ready: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
        """The job, once it is so."""
        end = time.monotonic() + UNTIL_S
        while not ready(job := self.get(address)):
            assert time.monotonic() < end and job["status"] not in ENDED, f"{job['status']}: {job['error']}"
            time.sleep(0.5)
        return job

    def worker_of(self, address: str) -> str:
        """The container that runs the job."""
        items = self.get("/v1/workers")["items"]
        busy = next(one["name"] for one in items if one["busy"])
        host = busy.partition(":")[0]
        return next(name for name in self.fleet.started if name.startswith("worker") and self.id_of(name) == host)

    def id_of(self, name: str) -> str:
        """Its host name."""
        return docker("inspect", "--format", "{{.Config.Hostname}}", self.fleet.container(name))


def kill(name: str) -> Callable[[Site, str], None]:
    """Kill a service's container with SIGKILL; Docker starts it again, as the compose file says."""

    def fault(site: Site, address: str) -> None:
        container = site.fleet.container(site.worker_of(address) if name == "worker" else f"{name}.0")
        process = docker("inspect", "--format", "{{.State.Pid}}", container)
        subprocess.run(["kill", "-9", process], check=True)

    return fault


def pause(name: str, seconds: float) -> Callable[[Site, str], None]:
    """Freeze a service's container for a while."""

    def fault(site: Site, address: str) -> None:
        container = site.fleet.container(site.worker_of(address) if name == "worker" else f"{name}.0")
        docker("pause", container)
        time.sleep(seconds)
        docker("unpause", container)

    return fault


def cut_off(seconds: float) -> Callable[[Site, str], None]:
    """Take the worker of the job off the network for longer than its lease, and put it back."""

    def fault(site: Site, address: str) -> None:
        container = site.fleet.container(site.worker_of(address))
        docker("network", "disconnect", site.fleet.name, container)
        time.sleep(seconds)
        docker("network", "connect", "--alias", "worker", site.fleet.name, container)

    return fault


def wipe(site: Site, _address: str) -> None:
    """Take all from Redis."""
    docker("exec", site.fleet.container("redis.0"), "redis-cli", "FLUSHALL")


FAULTS: Mapping[str, Callable[[Site, str], None]] = {
    "worker cut off for longer than its lease, then back": cut_off(3 * LEASE_S),
    "worker killed": kill("worker"),
    "worker frozen for longer than its lease": pause("worker", 3 * LEASE_S),
    "postgres killed": kill("postgres"),
    "postgres frozen": pause("postgres", 20),
    "redis killed": kill("redis"),
    "redis wiped": wipe,
    "relay killed": kill("relay"),
    "relay frozen": pause("relay", 20),
    "api killed": kill("api"),
}


def tried(site: Site, fault: Callable[[Site, str], None]) -> str:
    """Do it to a job that has saved something; what became of the job, in a line."""
    address = site.submit()
    site.until(address, lambda job: job["stage"] == "recover" and (job["progress"].get("step") or 0) > 50)
    began = time.monotonic()
    fault(site, address)
    job = site.until(address, lambda job: job["status"] in ENDED)
    assert job["status"] == "succeeded", job["error"]
    events = site.get(f"{address}/events?limit=1000")["items"]
    ends = [
        one
        for one in events
        if one["type"] == "status" and one["data"].get("to", one["data"].get("status")) == "succeeded"
    ]
    assert len(ends) <= 1, "it ended twice"
    assert len(site.get(f"{address}/files")["items"]) > 5
    last = max(i for i, one in enumerate(events) if one["type"] == "stage" and one["data"].get("stage") == "recover")
    steps = [one["data"].get("step", 0) for one in events[last:] if one["type"] == "progress"]
    again = "went on"
    if job["attempt"] > 1:
        again = f"attempt {job['attempt']}, from step {min(steps, default=0)} or before"
    return f"{again}; ended {time.monotonic() - began:.0f} s later, once"


def main(arguments: list[str] | None = None) -> int:
    """Exit code: how many faults a job did not survive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[*FAULTS], default=[*FAULTS])
    asked, failed = parser.parse_args(arguments).only, 0
    build()
    lease = {"TOPWORK_LEASE_S": str(LEASE_S), "TOPWORK_HEARTBEAT_S": "1"}
    fleet = Fleet("topwork-faults", lease, PORT)
    try:
        fleet.up({"worker": 2})
        site = moved_in(fleet)
        for name in asked:
            try:
                print(f"{name}: {tried(site, FAULTS[name])}", flush=True)
            except (AssertionError, RuntimeError, httpx.HTTPError) as error:
                failed += 1
                print(f"{name}: FAILED: {error}", flush=True)
    finally:
        fleet.end()
    return failed


def moved_in(fleet: Fleet) -> Site:
    """The fleet with a key, a tiny model and a data set."""
    key = fleet.once("api", "topwork", "keys", "create")
    client = httpx.Client(base_url=f"http://127.0.0.1:{PORT}", headers={"Authorization": f"Bearer {key}"})
    with tempfile.TemporaryDirectory() as folder:
        model = save_tiny_model(Path(folder) / "tiny")
        for file in model.iterdir():  # which is copied as it is, and belongs to root
            file.chmod(0o644)
        fleet.put("api.0", model, "/data/models/")
        table = rows(400)
        with (Path(folder) / "rows.csv").open("w", newline="") as file:
            csv.writer(file).writerows([[*table], *zip(*table.values(), strict=True)])
        with (Path(folder) / "rows.csv").open("rb") as file:
            answer = client.post("/v1/datasets", files={"file": file}, timeout=60)
    assert answer.status_code == 201, answer.text
    return Site(fleet, client, answer.json()["id"])


if __name__ == "__main__":
    sys.exit(main())
