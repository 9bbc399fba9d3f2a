"""Processes as /proc shows them: which there are, what they take."""

from __future__ import annotations

import os
from pathlib import Path

CLOCK = os.sysconf("SC_CLK_TCK")


def below(pid: int) -> list[int]:
    """All descendants."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
        except OSError:
            continue
    found = parents.get(pid, [])
    return found + [one for child in found for one in _descend(child, parents)]


def _descend(pid: int, parents: dict[int, list[int]]) -> list[int]:
    return [one for child in parents.get(pid, []) for one in (child, *_descend(child, parents))]


def cmdline(pid: int) -> bytes:
    """How a process was started; nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def cpu_s(pid: int, *, children: bool = False) -> float:
    """Seconds of a process; or of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    first = 13 if children else 11
    return (int(fields[first]) + int(fields[first + 1])) / CLOCK


def memory(pid: int, name: str) -> int:
    """Bytes: VmRSS now, VmHWM at most since it was reset."""
    try:
        status = Path(f"/proc/{pid}/status").read_text().split()
        return int(status[status.index(f"{name}:") + 1]) * 1024
    except (OSError, ValueError):
        return 0


def parents_of(pid: int) -> list[int]:
    """The process that started it."""
    try:
        return [int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])]
    except OSError:
        return []
