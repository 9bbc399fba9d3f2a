"""Whether other work is on the machine, and waiting until there is less: before a limit in time is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

STAT = Path("/proc/stat")
BUSY = 0.1  # part of the cores, or of the time of passes
LOOK_S = 1.0
WAIT_S = 120.0


def others(seconds: float = LOOK_S) -> float:
    """Part of the cores' time that others take while this process sleeps for so long; 0 where no kernel says."""
    before = _times()
    time.sleep(seconds)
    worked, every = (late - early for early, late in zip(before, _times(), strict=True))
    return worked / every if every > 0 else 0.0


def quieten(note: Callable[[str], None], alive: Callable[[], None], limit_s: float = WAIT_S) -> bool:
    """Wait until others take less than `BUSY` of the cores, `limit_s` at most. Whether it had to, which it says."""
    until, taken = time.monotonic() + limit_s, others()
    if taken < BUSY:
        return False
    note(
        f"other work takes {taken:.0%} of this machine's cores: waiting until it is quiet, {limit_s:.0f} s at most, to "
        "measure again before the limit is refused"
    )
    while taken >= BUSY and time.monotonic() < until:
        alive()
        taken = others()
    return True


def _times() -> tuple[int, int]:
    """Of all cores so far, in ticks: how long they worked, and how long they were there."""
    try:
        user, nice, system, idle, waited, *rest = map(int, STAT.read_text().split("\n")[0].split()[1:9])
    except (OSError, ValueError):
        return 0, 0
    worked = user + nice + system + sum(rest)
    return worked, worked + idle + waited
