"""A reader process is bounded, whatever it is made to do, and leaves nothing."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.rows import sandbox
from core.rows.sandbox import MIB, Bounds, run
from core.spec.errors import SpecError
from tests.rows import greedy

BOUNDS = Bounds(memory_bytes=256 * MIB, cpu_s=20, file_bytes=MIB)


def call(scratch: Path, function: Callable[..., Any], *given: Any, bounds: Bounds = BOUNDS, returns: Any = int) -> Any:
    return run(function, *given, returns=returns, bounds=bounds, scratch=scratch, where="/file")


@pytest.mark.parametrize("hold", [greedy.hold, greedy.arrow], ids=["python", "arrow"])
@pytest.mark.field("3. Under attack", "a file that takes memory without end", "the reader is ended at its bound")
def test_memory_has_a_bound_beyond_what_is_loaded(tmp_path: Path, hold: Callable[[int], int]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert call(tmp_path, hold, 200) == 200 * MIB
    with pytest.raises(SpecError, match="more than 256 MiB of memory: give fewer") as refused:
        call(tmp_path, hold, 300)
    assert refused.value.field == "/file"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000  # kB, of the process that asked


@pytest.mark.parametrize(
    ("function", "bounds", "says"),
    [
        (greedy.spin, {"cpu_s": 1}, "took more than .* s"),
        (greedy.sleep, {"cpu_s": 1}, "took more than 3 s"),
        (greedy.write, {}, "unpacks to more than 1 MiB"),
        (greedy.full, {}, "more than 256 MiB of memory"),
        (greedy.crash, {}, "broke the reader .*damaged"),
        (greedy.bug, {}, "we have not foreseen"),
        (greedy.talk, {}, "broke the reader"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.field(
    "3. Under attack",
    "a file that takes CPU, time or disk without end, or kills its reader",
    "ended, and said in a 422",
)
def test_whatever_ends_a_reader_is_said(
    tmp_path: Path, function: Callable[[], Any], bounds: dict[str, int], says: str
) -> None:
    with pytest.raises(SpecError, match=says) as refused:
        call(tmp_path, function, bounds=Bounds(**{**vars(BOUNDS), **bounds}), returns=Any)
    assert refused.value.field == "/file"
    assert not sandbox._alive and not multiprocessing.active_children()


def test_it_sees_and_leaves_what_it_should(tmp_path: Path) -> None:
    limits = call(tmp_path, greedy.surroundings, returns=dict[str, Any])
    assert limits == {"core": 0, "tmp": str(tmp_path), "cwd": str(tmp_path), "torch": False, "not loaded": []}
    with pytest.raises(FileNotFoundError):
        call(tmp_path, greedy.absent)


def test_all_faults_come_back(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as refused:
        call(tmp_path, greedy.refuse)
    assert [(one.field, one.message) for one in refused.value.faults] == [("/a", "one"), ("/b", "two")]


def test_stop_ends_those_that_read(tmp_path: Path) -> None:
    errors: list[Exception] = []

    def ask() -> None:
        try:
            call(tmp_path, greedy.sleep)
        except SpecError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while not sandbox._alive:
        time.sleep(0.01)
    sandbox.stop()
    thread.join(10)
    assert errors and not thread.is_alive()


def test_it_ends_with_the_process_that_asked(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from tests.rows import greedy
from tests.rows.test_sandbox import call
call(Path({str(tmp_path)!r}), greedy.tell_and_sleep)
"""
    asking = subprocess.Popen([sys.executable, "-c", code])
    try:
        told = tmp_path / "pid"
        while not (told.exists() and told.read_text()):
            assert asking.poll() is None
            time.sleep(0.02)
        reader = int(told.read_text())
        os.kill(reader, 0)
    finally:
        asking.send_signal(signal.SIGKILL)
        asking.wait()
    until = time.monotonic() + 10
    while (status := Path(f"/proc/{reader}/status")).exists() and "zombie" not in status.read_text():
        assert time.monotonic() < until
        time.sleep(0.02)
