"""What an input costs the API, its readers, and those who wait meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.hostile.processes import below, cmdline, cpu_s, memory, parents_of
from benchmarks.hostile.server import PATIENCE_S, Server, answers

TICK_S = 0.01
MB = 1e6
Send = Callable[[], "httpx.Response | str"]


@dataclass
class Cost:
    """What was measured while an input was dealt with."""

    answer: str = ""
    api_cpu_s: float = 0.0
    api_bytes: int = 0
    readers_cpu_s: float = 0.0
    reader_bytes: int = 0
    healthz_s: float = 0.0


@dataclass
class Watch:
    """Looks at readers, and asks /healthz, until it is told to stop."""

    server: Server
    reader_bytes: int = 0
    healthz_s: float = 0.0
    asked: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        with httpx.Client(base_url=self.server.url, timeout=PATIENCE_S, trust_env=False) as client:
            while not self.stopped.is_set():
                started = time.perf_counter()
                answers(client, "/healthz")
                self.healthz_s = max(self.healthz_s, time.perf_counter() - started)
                self.asked += 1
                time.sleep(TICK_S)

    def look(self) -> None:
        while not self.stopped.is_set():
            forkers = [pid for pid in below(self.server.api) if b"forkserver" in cmdline(pid)]
            for pid in forkers:
                if any(parent in forkers for parent in parents_of(pid)):
                    self.reader_bytes = max(self.reader_bytes, memory(pid, "VmHWM"))
            time.sleep(5 * TICK_S)


def measure(server: Server, send: Send) -> Cost:
    """Send it, and see."""
    api, watch = server.api, Watch(server)
    forkers = [pid for pid in below(api) if b"forkserver" in cmdline(pid)]
    Path(f"/proc/{api}/clear_refs").write_text("5")
    before = cpu_s(api), memory(api, "VmRSS"), sum(cpu_s(pid, children=True) for pid in forkers)
    threads = [threading.Thread(target=one) for one in (watch.ask, watch.look)]
    for thread in threads:
        thread.start()
    time.sleep(2)  # what /healthz alone costs
    each = (cpu_s(api) - before[0]) / max(1, watch.asked)
    try:
        answer = send()
    except httpx.TransportError as error:
        answer = f"no answer ({type(error).__name__})"
    finally:
        watch.stopped.set()
        for thread in threads:
            thread.join()
    return Cost(
        answer=answer if isinstance(answer, str) else told(answer),
        api_cpu_s=max(0.0, cpu_s(api) - before[0] - each * watch.asked),
        api_bytes=max(0, memory(api, "VmHWM") - before[1]),
        readers_cpu_s=sum(cpu_s(pid, children=True) for pid in forkers) - before[2],
        reader_bytes=watch.reader_bytes,
        healthz_s=watch.healthz_s,
    )


def told(answer: httpx.Response) -> str:
    """Status, and the first fault."""
    try:
        errors = answer.json().get("errors") or [{"detail": answer.json().get("detail", "")}]
        return f"{answer.status_code} {errors[0].get('pointer') or ''} {errors[0]['detail']}"[:120].strip()
    except (ValueError, AttributeError, KeyError):
        return str(answer.status_code)
