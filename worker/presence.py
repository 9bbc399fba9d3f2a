"""A worker says that it is there, and what it runs on; without torch, which only the child may load."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from core.ledger import workers
from core.ledger.database import Database

log = logging.getLogger("topwork.worker")


def announce(database: Database, name: str, slots: int, stop: threading.Event) -> None:
    """Every few seconds until told to stop; then it takes its leave."""
    found = device()
    while True:
        leaving = stop.is_set()
        try:
            with database.begin() as session:
                if leaving:
                    workers.gone(session, name)
                else:
                    workers.seen(session, name, slots, found)
        except SQLAlchemyError as error:
            log.warning("cannot say that this worker is there: %s", str(error).partition("\n")[0])
        if leaving:
            return
        stop.wait(workers.SAY_EVERY_S)


def device() -> dict[str, Any]:
    """GPUs that jobs may use, processors, memory."""
    gpus = _gpus()
    return {
        "type": "cuda" if gpus else "cpu",
        "gpus": gpus,
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def _gpus() -> list[dict[str, Any]]:
    command, visible = shutil.which("nvidia-smi"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if command is None or visible == "":
        return []
    asked = [command, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    asked += ["-i", visible] if visible else []
    try:
        lines = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
        cells = [line.rsplit(",", 1) for line in lines if line.strip()]
        return [{"name": name.strip(), "memory_bytes": int(mib) * 2**20} for name, mib in cells]
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        log.warning("nvidia-smi does not say which GPUs there are: %s", error)
        return []
