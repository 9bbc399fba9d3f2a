"""The child process of an attempt: started without secrets in a group of its own, heard line by line, and ended."""

from __future__ import annotations

import logging
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

TICK_S = 0.1
GRACE_S = 0.5  # between SIGTERM and SIGKILL
EXIT_S = 5.0  # for a child that has said its last line, and for what was killed
MAX_LINE_BYTES = 1 << 20
LOG = "log.txt"  # its stderr, in its folder
KEPT_VARIABLES = {
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH"),
    *(
        "TOPWORK_LOG",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "CUDA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
        "NVIDIA_VISIBLE_DEVICES",
    ),
}

log = logging.getLogger("topwork.job")


class LineTooLongError(Exception):
    """The child does not speak in lines."""


class ChildProcess:
    """Runs `command` in `folder`; whoever hears it keeps up its own work at each empty line."""

    def __init__(self, command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> None:
        """`variables`: of its environment, beside those of ours that are no secret."""
        kept = {name: value for name, value in os.environ.items() if name in KEPT_VARIABLES or name[:5] == "NCCL_"}
        self.folder = folder
        with (folder / LOG).open("wb") as errors:
            self._process = subprocess.Popen(
                [*command, str(folder)],
                cwd=folder,
                env={**kept, **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )

    def lines(self) -> Iterator[bytes]:
        """Lines of its stdout as they come, an empty one each tick, until it is gone. Raises LineTooLongError."""
        assert self._process.stdout is not None
        pipe, rest = self._process.stdout.fileno(), b""
        while True:
            gone = self._exited() is not None  # asked before reading, so that nothing it said is missed
            while select.select([pipe], [], [], 0 if gone else TICK_S)[0]:
                chunk = os.read(pipe, 1 << 16)
                if not chunk:
                    yield from self.leaving()
                    return
                *lines, rest = (rest + chunk).split(b"\n")
                yield from filter(None, lines)
                if len(rest) > MAX_LINE_BYTES:
                    raise LineTooLongError(f"its process wrote a line of more than {MAX_LINE_BYTES} bytes")
            if gone:
                return
            yield b""

    def leaving(self) -> Iterator[bytes]:
        """Empty lines, while it is given a little time to leave by itself."""
        until = time.monotonic() + EXIT_S
        while self._exited() is None and time.monotonic() < until:
            yield b""
            time.sleep(TICK_S / 5)

    @property
    def exit_code(self) -> int | None:
        """What it ended with, of a signal its number below nought, as subprocess has it; None while it runs."""
        ended = self._exited()
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def end(self) -> None:
        """End it and its whole process group, gently for a moment, and see it gone.

        What was killed holds memory, a GPU's too, until it has ended: the next attempt may need it.
        """
        pid = self._process.pid
        if self._exited() is None:
            os.killpg(pid, signal.SIGTERM)
            until = time.monotonic() + GRACE_S
            while self._exited() is None and time.monotonic() < until:
                time.sleep(TICK_S / 5)
        # Not reaped yet, so the group's number is still its own: this ends what the child left running, too.
        os.killpg(pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        until = time.monotonic() + EXIT_S
        while _has_members(pid) and time.monotonic() < until:
            time.sleep(TICK_S / 5)

    def last_words(self) -> str:
        """Why it died, as far as it can be told; without the paths of this machine."""
        code = self.exit_code
        if code is None:
            how = "its process closed its output without a result"
        elif code < 0:
            how = f"its process was killed by {_signal(-code)}"
        else:
            how = f"its process exited with code {code}"
        with (self.folder / LOG).open("rb") as errors:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - 8192))
            text = errors.read().decode("utf-8", "replace")
        if killed := re.search(r"Root Cause.*exitcode +: -(\d+)", text, re.DOTALL):  # one of several processes
            how = f"one of its processes was killed by {_signal(int(killed[1]))}"
        text = re.sub(r"\n[^\n]*torch/distributed/elastic/.*", "", text, flags=re.DOTALL)  # what their launcher adds
        if text.strip():
            log.debug("the log of the process ends:\n%s", text)  # it may quote a row
            how += f": {without_paths(text.strip().splitlines()[-1])}"
        return how

    def _exited(self) -> os.waitid_result | None:
        """How it ended; it is left to be reaped, so that its number cannot be given to another process."""
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)


def without_paths(text: str) -> str:
    """At most 300 characters, with no path of this machine."""
    return re.sub(r"(/[\w.@+~-]+){2,}/?", "…", text)[:300]


def _has_members(group: int) -> bool:
    """Whether a process group has processes, those included that nobody has waited for."""
    try:
        os.killpg(group, 0)
    except OSError:  # none, or another's by now
        return False
    return True


def _signal(number: int) -> str:
    name = signal.Signals(number).name
    return name + (" (out of memory?)" if name == "SIGKILL" else "")
