"""How busy a machine is: what part of its time this thread waits for a core."""

from __future__ import annotations

from pathlib import Path


def scheduled() -> tuple[int, int]:
    """Nanoseconds that this thread has run so far, and waited for a core."""
    try:
        ran, waited, _ = map(int, Path("/proc/thread-self/schedstat").read_text().split())
    except OSError:  # a kernel that does not count them
        return 0, 0
    return ran, waited


def waited(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Part of the time between that went by waiting."""
    ran, stood = (late - early for early, late in zip(before, after, strict=True))
    return stood / (ran + stood) if ran + stood else 0.0
