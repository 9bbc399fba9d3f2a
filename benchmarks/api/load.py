"""Clients that ask without a pause, and what a server takes for it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

CLIENTS = 8  # that ask without a pause
ROUNDS, SECONDS = 7, 2.0
Numbers = dict[str, float]

WRK = """
local n = 0
function request()
  n = n % #paths + 1
  return wrk.format(nil, paths[n])
end
function done(summary, latency)
  local e = summary.errors
  print(string.format("RESULT %d %d %d %d %d", summary.requests, summary.duration,
    e.connect + e.read + e.timeout + e.status, latency:percentile(50), latency:percentile(99)))
end
"""


def wrk(pid: int, url: str, paths: Sequence[str], headers: dict[str, str], body: str | None = None) -> Numbers:
    """Requests a second, latencies, and the server's CPU time a request, of clients that ask without a pause."""
    before = cpu_seconds(pid)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"paths = {{{', '.join(map(repr, paths))}}}\n{WRK}")
        script.write(f"wrk.method, wrk.body = 'POST', [==[{body}]==]\n" if body is not None else "")
        script.flush()
        command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS:g}s", "-s", script.name, "--timeout", "20s"]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        done = subprocess.run([*command, url], capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    requests, duration_us, failed, p50_us, p99_us = map(int, line.split()[1:])
    if failed:
        raise RuntimeError(f"{failed} of {requests} requests failed: {done.stdout}")
    cpu_ms = 1000 * (cpu_seconds(pid) - before) / requests
    return {
        "per_s": requests / duration_us * 1e6,
        "p50_ms": p50_us / 1000,
        "p99_ms": p99_us / 1000,
        "cpu_ms": cpu_ms,
    }


def rounds(arms: dict[str, Callable[[], Numbers]], base: str, of: str, count: int = ROUNDS) -> dict[str, Any]:
    """Every arm in turn, after one turn to warm up: medians, and the ratio to the base of the same turn, its range."""
    turns: dict[str, list[Numbers]] = {name: [] for name in arms}
    for turn in range(count + 1):
        for name, arm in arms.items():
            numbers = arm()
            if turn:
                turns[name].append(numbers)
    table: dict[str, Any] = {}
    for name, seen in turns.items():
        ratios = sorted(one[of] / by[of] for one, by in zip(seen, turns[base], strict=True))
        table[name] = {key: median(one[key] for one in seen) for key in seen[0]}
        table[name] |= {"ratio": median(ratios), "lowest": ratios[0], "highest": ratios[-1]}
    return table


def held(pid: int) -> dict[str, Any]:
    """Resident and proportional memory of a process in MB, and whether torch is loaded."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    torch = "libtorch" in Path(f"/proc/{pid}/maps").read_text()
    return {"rss_mb": sizes["Rss"], "pss_mb": sizes["Pss"], "torch": torch}


def cpu_seconds(pid: int) -> float:
    """Time that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
