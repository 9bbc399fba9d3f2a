"""`python -m worker.health relay|worker`: does that part of this host do its work? The health check of a container."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

from core.ledger import workers
from core.ledger.database import open_database
from core.ledger.jobs import upkeep
from core.ledger.settings import Settings, read_settings
from core.ledger.tables import clock_ms

LATE_S = 60.0  # for a step of the relay, or an announcement, with a relay that works and a broker that listens


def fault(part: str, settings: Settings) -> str | None:
    """What is wrong, or None."""
    database = open_database(settings)
    try:
        with database.read() as session:
            if part == "relay":
                if not _is_fresh(trace(settings)):
                    return "it does not work"
                before = clock_ms(session) - LATE_S * 1000
                late = [row for row in upkeep.outbox(session) if row.created_at < before]
                return f"{len(late)} announcements wait" if late else None
            names = [worker.name for worker, _ in workers.alive(session)]
            return None if any(name.startswith(f"{socket.gethostname()}:") for name in names) else "it does not report"
    finally:
        database.close()


def trace(settings: Settings) -> Path:
    """The file that the relay of this host touches at each step."""
    return settings.data_dir / f"relay-{socket.gethostname()}"


def _is_fresh(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < LATE_S
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(fault(sys.argv[1], read_settings()))
