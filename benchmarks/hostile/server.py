"""A server of a checkout, on an empty folder with one tiny model."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.hostile.processes import below, cmdline

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
CONFIG = {
    "model_type": "bert",
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "vocab_size": 100,
}


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


def rows(count: int) -> bytes:
    """A CSV file of distinct texts."""
    return b"text,label\n" + b"".join(
        b"review %d is sturdy and light,%s\n" % (i, (b"good", b"bad")[i % 2]) for i in range(count)
    )


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


def revision(root: Path) -> str:
    """Of a checkout."""
    return subprocess.check_output(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], text=True).strip()
