"""A worker says that it is there, and what it runs on; without torch, which only what it starts aside may load."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from core.ledger import workers
from core.ledger.database import Database
from core.machine import cpu_name

CGROUP = Path("/sys/fs/cgroup")

log = logging.getLogger("topwork.worker")


def announce(
    database: Database,
    name: str,
    slots: int,
    device: Mapping[str, Any],
    stop: threading.Event,
    look: Callable[[], None] = lambda: None,
) -> None:
    """Every few seconds until told to stop; then it takes its leave. Each time it has a `look` for work, too.

    For a message wakes any worker, and may not meet the one that has what the job needs.
    """
    while True:
        leaving = stop.is_set()
        try:
            with database.begin() as session:
                if leaving:
                    workers.gone(session, name)
                else:
                    workers.seen(session, name, slots, device)
        except SQLAlchemyError as error:
            log.warning("cannot say that this worker is there: %s", str(error).partition("\n")[0])
        if leaving:
            return
        look()
        stop.wait(workers.SAY_EVERY_S)


def device() -> dict[str, Any]:
    """GPUs that jobs may use, by the ids that CUDA_VISIBLE_DEVICES takes; processors; memory."""
    gpus = _gpus()
    return {
        "type": "cuda" if gpus else "cpu",
        "gpus": gpus,
        "cpu": cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": _memory(),
    }


def _memory() -> int:
    """Of the machine, or what its container may have."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # of cgroups 2, and 1
        with suppress(OSError, ValueError):  # no such limit, or "max"
            found.append(int((CGROUP / limit).read_text()))
    return min(found)


def _gpus() -> list[dict[str, Any]]:
    command, visible = shutil.which("nvidia-smi"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if command is None or visible == "":
        return []
    asked = [command, "--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits"]
    asked += ["-i", visible] if visible else []
    try:
        lines = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
        found = []
        for line in filter(str.strip, lines):
            uuid, rest = line.split(",", 1)
            name, mib = rest.rsplit(",", 1)
            found.append({"id": uuid.strip(), "name": name.strip(), "memory_bytes": int(mib) * 2**20})
        return found
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        log.warning("nvidia-smi does not say which GPUs there are: %s", error)
        return []
