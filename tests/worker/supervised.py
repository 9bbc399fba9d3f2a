"""A job that is claimed, and the processes it runs in."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.ledger.jobs import claims
from tests.worker.conftest import House
from worker.supervise import Supervisor

FAKE_CHILD = (sys.executable, str(Path(__file__).with_name("fake_child.py")))


def claim(house: House, job_id: str, **options: Any) -> Supervisor:
    settings = house.settings.model_copy(update=options.pop("settings", {}))
    with house.database.begin() as session:
        job = claims.claim(session, job_id, "worker", settings.lease_s)
        assert job is not None
    arguments: dict[str, Any] = {
        "database": house.database,
        "storage": house.storage,
        "settings": settings,
        "command": FAKE_CHILD,
        "stopping": threading.Event(),
    }
    return Supervisor(job, **arguments | options)


@contextmanager
def running(supervisor: Supervisor) -> Any:
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield
    finally:
        thread.join(120)
        assert not thread.is_alive()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def child_pids(house: House) -> list[int]:
    return [int(path.name.rpartition("-")[2]) for path in house.traces.iterdir()]
