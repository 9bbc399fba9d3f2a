"""What this machine calls itself, and how its libraries say that its memory is full."""

from __future__ import annotations

from pathlib import Path

FULL = ("bad_alloc", "allocate memory", "out of memory")


def cpu_name() -> str:
    """As the kernel calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")


def is_full(error: BaseException) -> bool:
    """Whether an error says that there was no memory left: C++ libraries have types and words of their own for it."""
    return (
        isinstance(error, MemoryError)
        or "OutOfMemory" in type(error).__name__
        or any(words in str(error) for words in FULL)
    )
