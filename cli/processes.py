"""Child processes that never outlive their parent (Linux)."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def start(
    command: Sequence[str], environment: Mapping[str, str], log: Path, *, tied: bool = True
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own: Ctrl-C reaches the parent alone.

    `tied`: the kernel kills it when the parent ends, however that ends.
    """
    parent = os.getpid()

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if not tied:
            return
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=prepare,
        )


def adopt_orphans() -> None:
    """From now on, what a dead child leaves running becomes a child of this process."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


def children(pid: int) -> list[int]:
    """Process ids of the direct children, the ended ones that nobody has waited for included."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def stop(processes: Sequence[subprocess.Popen[bytes]], patience_s: float) -> None:
    """SIGTERM to all, SIGKILL to those that are still there after `patience_s`."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + patience_s
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def kill_orphans() -> None:
    """SIGKILL to every child that is left, and to what those leave behind in turn."""
    while orphans := children(os.getpid()):
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def bury_orphans(own: Sequence[int]) -> None:
    """Wait for adopted processes that have ended, so that no zombies pile up."""
    for pid in set(children(os.getpid())) - set(own):
        os.waitpid(pid, os.WNOHANG)
