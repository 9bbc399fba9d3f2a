"""Inputs that cost, or could: each is made ready for a server, and then sent."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.hostile.server import CONFIG, Server, environment, rows
from benchmarks.hostile.watch import Send, told

HEADERS = {"Content-Type": "application/json"}
Input = Callable[[Server], Send]  # what is done before is not measured
INPUTS: dict[str, Input] = {}


def hostile(what: str) -> Callable[[Input], Input]:
    """Name an input."""

    def add(make: Input) -> Input:
        INPUTS[what] = make
        return make

    return add


def nulls(columns: int, count: int) -> bytes:
    """A Parquet file of cells without a value, and one column with."""
    file = io.BytesIO()
    table = dict.fromkeys((f"c{i}" for i in range(columns)), pa.nulls(count, pa.string()))
    pq.write_table(pa.table({**table, "text": pa.array(["a"] * count)}), file, compression="zstd")
    return file.getvalue()


@hostile("Parquet of 100,000 rows and 250 columns of nulls")
def _few_nulls(server: Server) -> Send:
    content = nulls(250, 100_000)
    return lambda: server.upload("nulls.parquet", content)


@hostile("Parquet of 1,000,000 rows and 250 columns of nulls")
def _many_nulls(server: Server) -> Send:
    content = nulls(250, 1_000_000)
    return lambda: server.upload("nulls.parquet", content)


@hostile("1,000,000 lines of `{}`")
def _empty_objects(server: Server) -> Send:
    content = b"{}\n" * 1_000_000
    return lambda: server.upload("empty.jsonl", content)


@hostile("250 files in one form, 1 MB each")
def _many_files(server: Server) -> Send:
    files = [("file", (f"{i}.csv", b"text\n" + b"a" * 999_000)) for i in range(250)]
    return lambda: server.client.post("/v1/datasets", files=files)


@hostile("eight validates at once of 100,000 rows")
def _validates(server: Server) -> Send:
    dataset = server.upload("rows.csv", rows(100_000)).json()["id"]
    bodies = [server.job(task={"data": {"dataset": dataset}}, train={"seed": seed}) for seed in range(8)]

    def send() -> str:
        with ThreadPoolExecutor(8) as pool:
            codes = list(pool.map(lambda body: server.client.post("/v1/jobs:validate", json=body).status_code, bodies))
        return ", ".join(f"{codes.count(code)} times {code}" for code in sorted(set(codes)))

    return send


@hostile("100,000 unknown fields")
def _unknown_fields(server: Server) -> Send:
    body = json.dumps(server.job() | {f"f{i}": 1 for i in range(90_000)}, separators=(",", ":")).encode()
    return lambda: server.client.post("/v1/jobs", content=body, headers=HEADERS)


@hostile("1,050 idle sockets, 1,024 files allowed")
def _idle_sockets(server: Server) -> Send:
    port = int(server.url.rpartition(":")[2])
    log = server.data_dir / "logs" / "api.log"

    def send() -> str:
        before = log.stat().st_size
        with ExitStack() as stack:
            for _ in range(1050):
                try:
                    stack.enter_context(socket.create_connection(("127.0.0.1", port), 2))
                except OSError:
                    break
            time.sleep(3)
            try:
                met = f"/healthz {httpx.get(f'{server.url}/healthz', timeout=5, trust_env=False).status_code}"
            except httpx.TransportError as error:
                met = f"/healthz {type(error).__name__}"
        return f"{met}, {(log.stat().st_size - before) / 1000:.0f} kB of log"

    return send


def safetensors(server: Server, name: str, header: bytes) -> None:
    """A local model with that header in front of its weights."""
    folder = server.data_dir / "models" / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))


@hostile("a tensor of 100,000 huge dimensions in models/")
def _huge_shape(server: Server) -> Send:
    shape = [2**62] * 100_000
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 64]}}).encode()
    safetensors(server, "crafted", header)
    return lambda: server.client.get("/v1/models")


@hostile("200,000 tensors in models/")
def _many_tensors(server: Server) -> Send:
    tensor = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    safetensors(server, "crafted", json.dumps({f"t{i}": tensor for i in range(200_000)}).encode())
    return lambda: server.client.get("/v1/models")


@hostile("code named in tokenizer_config.json (`auto_map`)")
def _auto_map(server: Server) -> Send:
    config = {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}, "tokenizer_class": "Tokenizer"}
    (server.data_dir / "models" / "tiny" / "tokenizer_config.json").write_text(json.dumps(config))
    body = server.job()
    return lambda: server.client.post("/v1/jobs:validate", json=body)


def followed(server: Server, body: dict[str, Any]) -> str:
    """What became of a job that is asked for, in half a minute."""
    answer = server.client.post("/v1/jobs", json=body)
    if answer.status_code != 202:
        return told(answer)
    until, job = time.monotonic() + 30, answer.json()
    while job["status"] in ("queued", "running") and time.monotonic() < until:
        time.sleep(0.5)
        job = server.client.get(f"/v1/jobs/{job['id']}").json()
    error = (job["error"] or {}).get("code", "")
    return f"202, then {job['status']} {error} (attempt {job['attempt']})"


@hostile("`latency_ms: 1e308`")
def _latency(server: Server) -> Send:
    body = server.job(budget={"latency_ms": 1e308})
    return lambda: followed(server, body)


@hostile("NaN in a model's config.json")
def _nan(server: Server) -> Send:
    config = json.dumps(CONFIG | {"layer_norm_eps": float("nan"), "initializer_range": float("nan")})
    (server.data_dir / "models" / "tiny" / "config.json").write_text(config)
    body = server.job()
    return lambda: followed(server, body)


FINISH = """
import sys
from pathlib import Path
from core.ledger.jobs import attempts, claims
from core.ledger.database import open_database
from core.ledger.settings import Settings
from core.ledger.files.stores import open_storage
settings = Settings(data_dir=Path(sys.argv[1]))
database = open_database(settings)
stored = open_storage(settings).put(Path(sys.argv[3]))
with database.begin() as session:
    claims.claim(session, sys.argv[2], "w", 3600)
    attempts.succeed(session, sys.argv[2], 1, {}, {"weights": stored})
print(stored[0])
"""


@hostile("a stored file that was cut short, downloaded")
def _cut_short(server: Server) -> Send:
    job = server.client.post("/v1/jobs", json=server.job(resources={"gpus": 8})).json()["id"]  # nobody takes it
    whole = server.data_dir / "weights"
    whole.write_bytes(os.urandom(4 * 2**20))
    command = [sys.executable, "-c", FINISH, str(server.data_dir), job, str(whole)]
    sha256 = subprocess.check_output(command, cwd=server.root, env=environment(server.root), text=True).strip()
    os.truncate(server.data_dir / "blobs" / sha256[:2] / sha256[2:4] / sha256, 2**20)

    def send() -> str:
        try:
            answer = server.client.get(f"/v1/jobs/{job}/files/weights", timeout=10)
            return f"{answer.status_code}, {len(answer.content):,} of {whole.stat().st_size:,} bytes"
        except httpx.RemoteProtocolError:
            return "the connection ends early"

    return send
