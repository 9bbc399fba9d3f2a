"""What is measured, a function a part."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from fastapi import FastAPI, Response

from benchmarks.api.house import (
    FEW,
    MANY,
    House,
    free_port,
    postgresql,
    running,
    uvicorn,
)
from benchmarks.api.load import Numbers, cpu_seconds, held, rounds, wrk
from core.ledger import datasets
from core.ledger.jobs import attempts, queries
from core.ledger.tables import DEFAULT_TENANT, new_id

WATCHERS, EVENTS, PERIOD_S = 200, 40, 0.25
DOWNLOAD_BYTES, DOWNLOADS = 400 * 10**6, 9
IDLE_S = 10.0
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
BARE = ("uvicorn", "benchmarks.api.parts:bare", "--factory", "--log-level", "warning", "--no-access-log")


def bare() -> FastAPI:
    """One route that returns bytes it was given: what FastAPI and its server cost by themselves."""
    app, body = FastAPI(), Path(os.environ["BARE_BODY"]).read_bytes()

    @app.get("/v1/jobs/{job_id}")
    async def get_job(job_id: str) -> Response:
        return Response(body, media_type="application/json")

    return app


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


def new_database(server: str) -> str:
    """URL of a new, empty database on a PostgreSQL server."""
    import psycopg

    name = new_id("bench")
    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("/postgres?", f"/{name}?")


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "polls": polls,
    "submit": submit,
    "events": events,
    "download": download,
    "memory": memory,
}
