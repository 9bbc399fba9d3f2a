"""A real `topwork serve` on its embedded default, with a tiny configuration of the real model."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.processes import children
from topwork import Client

GOOD = ("sturdy", "light", "quick", "bright", "lovely", "smooth")
BAD = ("flimsy", "heavy", "slow", "dim", "ugly", "rough")
THINGS = ("case", "lens", "strap", "screen", "button", "battery", "cable", "stand", "film", "plot", "actor", "scene")
FILLERS = ("the", "is", "very", "and", "it", "was", "this", "looks", "feels", "really")
WITHIN_S = 240.0


def eventually(done: Callable[[], Any], what: str, within_s: float = WITHIN_S) -> Any:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + within_s
    while not (answer := done()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.05)
    return answer


def write_model(folder: Path) -> None:
    """A BERT of 2 layers and 64 dimensions with random weights, and a tokenizer that knows the words above."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *THINGS, *FILLERS, *map(str, range(10))]
    words += [f"##{digit}" for digit in range(10)]
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(words) + "\n")
    BertTokenizerFast(vocab=str(vocabulary)).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)


def write_reviews(path: Path, rows: int, seed: int) -> Path:
    """A CSV file of distinct sentences whose label follows from their words."""
    rng = random.Random(seed)
    with path.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(("text", "label"))
        for i in range(rows):
            label, words = (("positive", GOOD), ("negative", BAD))[i % 2]
            sentence = ["the", rng.choice(THINGS), "is", *rng.choices(FILLERS, k=2), *rng.choices(words, k=2)]
            table.writerow((" ".join([*sentence, str(seed), str(i)]), label))
    return path


class Server:
    """A `topwork serve` process on a data folder."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TOPWORK_")},
            "TOPWORK_SERVER": self.url,
            "TOPWORK_LEASE_S": "6",
            "TOPWORK_HEARTBEAT_S": "0.5",
            "OMP_NUM_THREADS": "1",
        }
        self.process: subprocess.Popen[str] | None = None
        self.http = httpx.Client(base_url=self.url, timeout=120)
        self.client = Client(self.url)

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        log = (self.data_dir.parent / f"{self.data_dir.name}.log").open("a")
        command = [sys.executable, "-m", "cli", "serve", "--port", str(self.port), "--data-dir", str(self.data_dir)]
        self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, text=True)
        log.close()
        eventually(self.ready, "ready")

    def ready(self) -> bool:
        """Whether /readyz says so."""
        return self.client.server.ready()

    def stop(self) -> None:
        """End it, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(120)

    def topwork(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `topwork` command against it."""
        command = [sys.executable, "-m", "cli", *map(str, arguments)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=600)
        assert not check or done.returncode == 0, f"{arguments}: {done.stderr}\n{done.stdout}"
        return done

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as the client has it."""
        return self.client.jobs.get(job_id).model_dump(mode="json")

    def pids(self, part: str) -> list[int]:
        """Processes below the supervisor whose command line ends in these words."""
        return [pid for pid in self.descendants() if command_line(pid).split("valkey.sock")[0].rstrip().endswith(part)]

    def kill_worker(self) -> int:
        """End the worker and the process of its job as a power cut would; returns the worker's pid."""
        (worker,) = self.pids("-m worker")
        victims = [worker, *(pid for pid in self.descendants() if "worker.child" in command_line(pid))]
        assert len(victims) == 2
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        return worker

    def descendants(self) -> list[int]:
        """Every process below the supervisor."""
        assert self.process is not None
        found, todo = [], [self.process.pid]
        while todo:
            below = children(todo.pop())
            found += below
            todo += below
        return found


def command_line(pid: int) -> str:
    """The words of a process's command line; empty for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def specification(**changes: Any) -> dict[str, Any]:
    """A job for `topwork submit` with `--data reviews=...`."""
    return {
        "model": "tiny",
        "task": {"data": {"dataset": "@reviews"}, "split": {"train": 60, "dev": 30}},
        "budget": {"params": 0.4},
        "train": {"steps": {"teach": 20, "recover": 20}, "max_length": 32, "batch_size": 8},
        **changes,
    }


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny model."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_model(folder)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Server]:
    """A running server; tests leave it running."""
    data_dir = tmp_path_factory.mktemp("serve") / "data"
    (data_dir / "models").mkdir(parents=True)
    (data_dir / "models" / "tiny").symlink_to(tiny_model)
    server = Server(data_dir)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def submitted(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Submit a specification as a user would; returns the job's id."""
    folder = tmp_path_factory.mktemp("submitted")
    reviews = write_reviews(folder / "reviews.csv", 200, 1)

    def submit(spec: dict[str, Any]) -> str:
        path = folder / "spec.json"
        path.write_text(json.dumps(spec))
        return server.topwork("submit", path, "--data", f"reviews={reviews}").stdout.strip()

    return submit
