"""A fleet with a client, a tiny model and a data set; a job of it, watched through a fault."""

from __future__ import annotations

import csv
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.fleet.__main__ import ENDED
from tests.fleet.bases import docker
from tests.fleet.composed import Fleet
from tests.tiny import rows, save_tiny_model

STEPS = {"teach": 60, "recover": 3000}
UNTIL_S = 900.0
MAX_REPEATED_S = 60.0  # docs/reliability.md: what a killed job repeats at most
Event = dict[str, Any]


@dataclass
class Site:
    """A fleet, and a client of it."""

    fleet: Fleet
    client: httpx.Client
    dataset: str
    watcher: Watcher | None = None  # of the job that runs

    def get(self, address: str) -> dict[str, Any]:
        """The answer; asked again while the API is away."""
        end = time.monotonic() + UNTIL_S
        while True:
            with suppress(httpx.TransportError, httpx.HTTPStatusError):
                found: dict[str, Any] = self.client.get(address, timeout=20).raise_for_status().json()
                return found
            assert time.monotonic() < end, f"{address} does not answer"
            time.sleep(1)

    def submit(self, **changes: Any) -> str:
        """The address of a job that takes about a minute."""
        task = {"data": {"dataset": self.dataset}, "split": {"train": 100, "dev": 100}}
        spec = {"model": "tiny", "task": task, "budget": {"params": 0.5}, "train": {"steps": STEPS}}
        answer = self.client.post("/v1/jobs", json=spec | changes, timeout=60)
        assert answer.status_code == 202, answer.text
        return str(answer.headers["location"])

    def until(self, address: str, ready: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
        """The job, once it is so."""
        end = time.monotonic() + UNTIL_S
        while not ready(job := self.get(address)):
            assert time.monotonic() < end and job["status"] not in ENDED, f"{job['status']}: {job['error']}"
            time.sleep(0.5)
        return job

    def events(self, address: str) -> list[Event]:
        """All that happened to a job."""
        found: list[Event] = self.get(f"{address}/events?limit=1000")["items"]
        return found

    def worker_of(self, address: str) -> str:
        """The container with the job's process."""
        workers = (name for name in self.fleet.started if name.startswith("worker"))
        found = [name for name in workers if any(address.rpartition("/")[2] in one for one in self.processes(name))]
        assert found, f"no worker has {address}"
        return found[0]

    def api_of_stream(self) -> str:
        """The container that the job's events are read from, where there are several; else the only one."""
        read = self.watcher.api if self.watcher else ""
        names = [name for name in self.fleet.started if name.startswith("api")]
        return next((name for name in names if self.address_of(name) == read), names[0])

    def address_of(self, name: str) -> str:
        """The address of a container in the fleet's network."""
        known = f'{{{{(index .NetworkSettings.Networks "{self.fleet.name}").IPAddress}}}}'
        return docker("inspect", "--format", known, self.fleet.container(name))

    def processes(self, name: str) -> list[str]:
        """The processes of a container, each with its words."""
        return docker("top", self.fleet.container(name), "-eo", "pid,args").splitlines()

    def id_of(self, name: str) -> str:
        """Its host name."""
        return docker("inspect", "--format", "{{.Config.Hostname}}", self.fleet.container(name))


@dataclass
class Watcher:
    """Reads the event stream of a job until it ends, and connects again with Last-Event-ID whenever it breaks off."""

    client: httpx.Client
    address: str
    seen: list[int] = field(default_factory=list)
    connections: int = 0
    api: str = ""  # the address of the one that it reads from

    def run(self) -> None:
        """Return once the server says that nothing is to come."""
        end = time.monotonic() + UNTIL_S
        while time.monotonic() < end:
            with suppress(httpx.TransportError):
                if self._read() == 204:
                    return
            time.sleep(0.5)

    def _read(self) -> int:
        headers = {"Accept": "text/event-stream"}
        headers |= {"Last-Event-ID": str(self.seen[-1])} if self.seen else {}
        with self.client.stream("GET", f"{self.address}/events", headers=headers, timeout=20) as answer:
            self.connections += answer.status_code == 200
            self.api = answer.headers.get("x-api", "").partition(":")[0]
            for line in answer.iter_lines():
                if line.startswith("id:"):
                    self.seen.append(int(line[3:]))
            return answer.status_code


def tried(site: Site, fault: Callable[[Site, str], object]) -> str:
    """Do something to the fleet while a job that has saved something runs; what became of the job, in a line."""
    address = site.submit()
    watcher = site.watcher = Watcher(site.client, address)
    watching = threading.Thread(target=watcher.run, daemon=True)
    watching.start()
    try:
        site.until(address, lambda job: job["stage"] == "recover" and (job["progress"].get("step") or 0) > 50)
        began = time.monotonic()
        told = fault(site, address)
        job = site.until(address, lambda job: job["status"] in ENDED)
    except BaseException:
        site.client.post(f"{address}/cancel", timeout=60)  # or it would run beside the next
        raise
    took = time.monotonic() - began
    again = checked(site, address, job)
    watching.join(60)
    events = site.events(address)
    assert watcher.seen == [one["seq"] for one in events], f"the stream had {watcher.seen}"
    line = f"attempt {job['attempt']}, {again:.0f} s done again, ended after {took:.0f} s, once; "
    line += f"the stream, on {watcher.connections} connections, had each of {len(events)} events once"
    return f"{line}; {told}" if told else line


def checked(site: Site, address: str, job: Mapping[str, Any]) -> float:
    """How much was done again, in seconds. AssertionError unless the job succeeded, once, and has its files."""
    assert job["status"] == "succeeded", job["error"]
    events = site.events(address)
    ends = [one for one in events if one["type"] == "status" and one["data"]["status"] == "succeeded"]
    assert len(ends) == 1, f"it ended {len(ends)} times"
    assert len(site.get(f"{address}/files")["items"]) > 5
    again = repeated_s(events)
    assert again <= MAX_REPEATED_S, f"{again:.0f} s were done again"
    return again


def repeated_s(events: Sequence[Event]) -> float:
    """How long the work took that was done again: of each stage what a later attempt began before."""
    total, stage = 0.0, ""
    reached, pace = dict[str, int](), dict[str, float]()  # of each stage: its last step, and seconds a step
    last: tuple[int, float] | None = None  # the step before in this attempt, and when that was
    for event in events:
        if event["type"] == "stage":
            stage, last = event["data"]["stage"], None
        if event["type"] != "progress" or (step := event["data"].get("step")) is None:
            continue
        at = datetime.fromisoformat(event["at"]).timestamp()
        if last is None:
            total += max(0, reached.get(stage, 0) - step) * pace.get(stage, 0.0)
        elif step > last[0]:
            pace[stage] = (at - last[1]) / (step - last[0])
        reached[stage], last = step, (step, at)
    return total


def moved_in(fleet: Fleet) -> Site:
    """The fleet with a key, a tiny model and a data set."""
    key = fleet.once("api", "topwork", "keys", "create")
    client = httpx.Client(base_url=f"http://127.0.0.1:{fleet.port}", headers={"Authorization": f"Bearer {key}"})
    with tempfile.TemporaryDirectory() as folder:
        model = save_tiny_model(Path(folder) / "tiny")
        for file in model.iterdir():  # which is copied as it is, and belongs to root
            file.chmod(0o644)
        fleet.put("api.0", model, "/data/models/")
    return Site(fleet, client, upload(client))


def upload(client: httpx.Client) -> str:
    """The id of a data set that a tiny model learns."""
    with tempfile.TemporaryFile("w+", newline="") as file:
        table = rows(400)
        csv.writer(file).writerows([[*table], *zip(*table.values(), strict=True)])
        file.seek(0)
        answer = client.post("/v1/datasets", files={"file": ("rows.csv", file.read())}, timeout=60)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])
