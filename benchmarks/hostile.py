"""What hostile input costs: CPU and memory of the API and of its readers, and how long others wait meanwhile.

    python -m benchmarks.hostile [--root DIR]... [--only NAME]... [--write]

Each input is sent to a server of its own, `topwork serve` of a checkout on loopback; give `--root` several times to
have one revision beside another. Of the API's process: CPU seconds, and how far its memory rose. Of the processes that
it started to read: CPU seconds of all, and the most that one of them held. `/healthz` is asked all the while. No answer
within a minute is waited for. Without `--write`, benchmarks/results/hostile.md stays as it is.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

RESULTS = Path(__file__).parent / "results" / "hostile.md"
ROOT = Path(__file__).parents[1]
PATIENCE_S = 60.0
TICK_S = 0.01
MB = 1e6
CLOCK = os.sysconf("SC_CLK_TCK")
HEADERS = {"Content-Type": "application/json"}


@dataclass
class Server:
    """A running server, and the number of its API's process."""

    root: Path
    data_dir: Path
    url: str
    api: int
    client: httpx.Client

    def upload(self, name: str, content: bytes) -> httpx.Response:
        """As a form."""
        return self.client.post("/v1/datasets", files={"file": (name, content)})

    def job(self, **changes: Any) -> dict[str, Any]:
        """A specification, of a small data set unless told otherwise."""
        if "task" not in changes:
            changes["task"] = {"data": {"dataset": self.upload("rows.csv", rows(60)).json()["id"]}}
        return {"model": "tiny", "budget": {"params": 0.5}, **changes}


@dataclass
class Cost:
    """What was measured while an input was dealt with."""

    answer: str = ""
    api_cpu_s: float = 0.0
    api_bytes: int = 0
    readers_cpu_s: float = 0.0
    reader_bytes: int = 0
    healthz_s: float = 0.0


# --- the inputs -------------------------------------------------------------------------------------------------

Send = Callable[[], "httpx.Response | str"]
Input = Callable[[Server], Send]  # what is done before is not measured
INPUTS: dict[str, Input] = {}


def hostile(what: str) -> Callable[[Input], Input]:
    """Name an input."""

    def add(make: Input) -> Input:
        INPUTS[what] = make
        return make

    return add


def rows(count: int) -> bytes:
    """A CSV file of distinct texts."""
    return b"text,label\n" + b"".join(
        b"review %d is sturdy and light,%s\n" % (i, (b"good", b"bad")[i % 2]) for i in range(count)
    )


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
try:
    from core.ledger.files.stores import open_storage
except ModuleNotFoundError:  # of an earlier revision
    from core.ledger.files.storage import open_storage
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


# --- the server -------------------------------------------------------------------------------------------------

CONFIG = {
    "model_type": "bert",
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "vocab_size": 100,
}


def environment(root: Path) -> dict[str, str]:
    """In which the code of that checkout runs."""
    return {name: value for name, value in os.environ.items() if name[:8] != "TOPWORK_"} | {"PYTHONPATH": str(root)}


@contextmanager
def serving(root: Path) -> Iterator[Server]:
    """`topwork serve` of that checkout, on an empty folder with one tiny model."""
    from tests.api.conftest import write_model

    with tempfile.TemporaryDirectory(prefix="hostile-") as folder, socket.socket() as probe:
        data_dir = Path(folder) / "data"
        write_model(data_dir / "models" / "tiny", **CONFIG)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [sys.executable, "-m", "cli", "serve", "--port", str(port), "--data-dir", str(data_dir)]
        process = subprocess.Popen(
            command,
            cwd=root,
            env=environment(root),
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096)),
        )
        url = f"http://127.0.0.1:{port}"
        try:
            with httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:
                until = time.monotonic() + 60
                while not answers(client, "/readyz"):
                    if process.poll() is not None or time.monotonic() > until:
                        raise SystemExit(f"the server of {root} does not start")
                    time.sleep(0.1)
                started = {pid: cmdline(pid) for pid in below(process.pid)}
                [api] = [pid for pid, how in started.items() if b"uvicorn" in how or b"-m\0api\0" in how]
                server = Server(root, data_dir, url, api, client)
                server.upload("warm.csv", rows(60))  # what is loaded at the first request is not the input's cost
                time.sleep(1)
                yield server
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(client: httpx.Client, path: str) -> bool:
    """Whether there is a 200."""
    try:
        return client.get(path, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def told(answer: httpx.Response) -> str:
    """Status, and the first fault."""
    try:
        errors = answer.json().get("errors") or [{"detail": answer.json().get("detail", "")}]
        return f"{answer.status_code} {errors[0].get('pointer') or ''} {errors[0]['detail']}"[:120].strip()
    except (ValueError, AttributeError, KeyError):
        return str(answer.status_code)


# --- what is measured -------------------------------------------------------------------------------------------


def below(pid: int) -> list[int]:
    """All descendants."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
        except OSError:
            continue
    found = parents.get(pid, [])
    return found + [one for child in found for one in _descend(child, parents)]


def _descend(pid: int, parents: dict[int, list[int]]) -> list[int]:
    return [one for child in parents.get(pid, []) for one in (child, *_descend(child, parents))]


def cmdline(pid: int) -> bytes:
    """How a process was started; nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def cpu_s(pid: int, *, children: bool = False) -> float:
    """Seconds of a process; or of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    first = 13 if children else 11
    return (int(fields[first]) + int(fields[first + 1])) / CLOCK


def memory(pid: int, name: str) -> int:
    """Bytes: VmRSS now, VmHWM at most since it was reset."""
    try:
        status = Path(f"/proc/{pid}/status").read_text().split()
        return int(status[status.index(f"{name}:") + 1]) * 1024
    except (OSError, ValueError):
        return 0


@dataclass
class Watch:
    """Looks at readers, and asks /healthz, until it is told to stop."""

    server: Server
    reader_bytes: int = 0
    healthz_s: float = 0.0
    asked: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        with httpx.Client(base_url=self.server.url, timeout=PATIENCE_S, trust_env=False) as client:
            while not self.stopped.is_set():
                started = time.perf_counter()
                answers(client, "/healthz")
                self.healthz_s = max(self.healthz_s, time.perf_counter() - started)
                self.asked += 1
                time.sleep(TICK_S)

    def look(self) -> None:
        while not self.stopped.is_set():
            forkers = [pid for pid in below(self.server.api) if b"forkserver" in cmdline(pid)]
            for pid in forkers:
                if any(parent in forkers for parent in _parents(pid)):
                    self.reader_bytes = max(self.reader_bytes, memory(pid, "VmHWM"))
            time.sleep(5 * TICK_S)


def _parents(pid: int) -> list[int]:
    try:
        return [int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])]
    except OSError:
        return []


def measure(server: Server, send: Send) -> Cost:
    """Send it, and see."""
    api, watch = server.api, Watch(server)
    forkers = [pid for pid in below(api) if b"forkserver" in cmdline(pid)]
    Path(f"/proc/{api}/clear_refs").write_text("5")
    before = cpu_s(api), memory(api, "VmRSS"), sum(cpu_s(pid, children=True) for pid in forkers)
    threads = [threading.Thread(target=one) for one in (watch.ask, watch.look)]
    for thread in threads:
        thread.start()
    time.sleep(2)  # what /healthz alone costs
    each = (cpu_s(api) - before[0]) / max(1, watch.asked)
    try:
        answer = send()
    except httpx.TransportError as error:
        answer = f"no answer ({type(error).__name__})"
    finally:
        watch.stopped.set()
        for thread in threads:
            thread.join()
    return Cost(
        answer=answer if isinstance(answer, str) else told(answer),
        api_cpu_s=max(0.0, cpu_s(api) - before[0] - each * watch.asked),
        api_bytes=max(0, memory(api, "VmHWM") - before[1]),
        readers_cpu_s=sum(cpu_s(pid, children=True) for pid in forkers) - before[2],
        reader_bytes=watch.reader_bytes,
        healthz_s=watch.healthz_s,
    )


# --- the table --------------------------------------------------------------------------------------------------


def revision(root: Path) -> str:
    """Of a checkout."""
    return subprocess.check_output(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], text=True).strip()


def table(found: dict[str, dict[str, Cost]]) -> str:
    """Markdown: a line for each input and revision."""
    lines = [
        "| input | revision | API: CPU s | MB more | readers: CPU s | one: MB | worst /healthz, ms | answer |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for what, costs in found.items():
        for which, cost in costs.items():
            numbers = (
                f"{cost.api_cpu_s:.2f} | {cost.api_bytes / MB:.0f} | {cost.readers_cpu_s:.2f} | "
                f"{cost.reader_bytes / MB:.0f} | {1000 * cost.healthz_s:.0f}"
            )
            lines.append(f"| {what} | {which} | {numbers} | {cost.answer.replace('|', '/')} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, action="append", help="a checkout; by default this one")
    parser.add_argument("--only", action="append", default=[], help="inputs whose names hold this")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    given = parser.parse_args()
    roots = {revision(root): root.resolve() for root in given.root or [ROOT]}
    found: dict[str, dict[str, Cost]] = {}
    for what, make in INPUTS.items():
        if given.only and not any(part in what for part in given.only):
            continue
        for which, root in roots.items():
            with serving(root) as server:
                found.setdefault(what, {})[which] = measure(server, make(server))
            print(table({what: {which: found[what][which]}}).splitlines()[-1], file=sys.stderr, flush=True)
    text = table(found)
    print(text)
    if given.write:
        about = (__doc__ or "").partition("\n\n")[0]
        RESULTS.write_text(f"# Hostile input\n\n{about} `python -m benchmarks.hostile`.\n\n{text}\n")


if __name__ == "__main__":
    main()
