"""A worker says that it is there, and on what."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from core.ledger import workers
from core.ledger.database import Database
from worker import presence


def names(database: Database) -> list[str]:
    with database.read() as session:
        return [worker.name for worker, _ in workers.alive(session)]


def test_it_is_there_until_it_leaves(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SAY_EVERY_S", 0.05)
    stop, looks = threading.Event(), list[int]()
    facts = (database, "host:1", 1, presence.device(), stop, lambda: looks.append(1))
    thread = threading.Thread(target=presence.announce, args=facts)
    thread.start()
    while names(database) != ["host:1"]:
        assert thread.is_alive()
    stop.set()
    thread.join(120)
    assert names(database) == [] and looks


@pytest.mark.parametrize(
    ("output", "gpus"),
    [
        (
            "GPU-1, NVIDIA H200, 143771\nGPU-2, Odd, name, 10\n",
            [("GPU-1", "NVIDIA H200", 143771), ("GPU-2", "Odd, name", 10)],
        ),
        ("", []),
        ("No devices were found\n", []),
    ],
)
def test_gpus_are_asked_of_the_driver(
    output: str, gpus: list[tuple[str, str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{output}'\n".replace("\n'", "\\n'") if output else "#!/bin/sh\nexit 9\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = presence.device()
    assert [tuple(gpu.values()) for gpu in found["gpus"]] == [(uuid, name, mib * 2**20) for uuid, name, mib in gpus]
    assert found["type"] == ("cuda" if gpus else "cpu") and found["cpus"] >= 1 and found["memory_bytes"] > 2**20
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert presence.device()["gpus"] == []


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_container_has_the_memory_that_it_may_use(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of cgroups 2, and of 1."""
    monkeypatch.setattr(presence, "CGROUP", tmp_path)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("12345678\n")
    assert presence.device()["memory_bytes"] == 12345678
    (tmp_path / file).write_text("max\n")
    assert presence.device()["memory_bytes"] > 2**30
