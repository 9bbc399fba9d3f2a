"""The process that does a job's work: `python -m worker.child WORKDIR`, started by the supervisor.

It reads WORKDIR/request.json and says what happens as JSON lines on its stdout; the last line is `done` or `failed`.
It knows no database, no broker and no secrets, and it dies with its supervisor.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


class Reporter:
    """Writes messages to what was stdout at the start; prints of any library go to the log instead."""

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._saves = 0
        self._lock = threading.Lock()

    def __call__(self, message: Mapping[str, Any]) -> None:
        """Say one message. At `saved`, the state is frozen before the caller can change it again."""
        with self._lock:
            if message["event"] == "saved":
                message = {**message, "folder": self._freeze_state()}
            self._out.write(json.dumps(message) + "\n")
            self._out.flush()

    def _freeze_state(self) -> str:
        """Link the files of state/ into a folder of their own, so that the supervisor stores them as one set."""
        self._saves += 1
        frozen = self._workdir / "saved" / str(self._saves)
        frozen.mkdir(parents=True)
        for path in (self._workdir / "state").iterdir():
            if path.is_file():
                os.link(path, frozen / path.name)
        return frozen.relative_to(self._workdir).as_posix()


def die_with_parent() -> None:
    """Be killed when the supervisor is, however it ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    parent = os.environ.get("SUPERVISOR_PID")
    if parent is not None and int(parent) != os.getppid():
        sys.exit("the supervisor is gone")  # it died before the line above


def main(workdir: Path) -> None:
    """Run the job of `workdir`."""
    die_with_parent()
    report = Reporter(workdir)

    from core.pruning.run import ModelRef, run
    from core.spec.job import JobSpec
    from core.spec.problems import SpecError

    request = json.loads((workdir / "request.json").read_text())
    spec = JobSpec.model_validate(request["spec"])
    model = ModelRef(**request["model"] | {"path": Path(request["model"]["path"])})
    datasets = {name: workdir / path for name, path in request["datasets"].items()}
    try:
        metrics = run(spec, model, datasets, workdir, report, Path(request["cache"]))
    except SpecError as problem:
        error = {"code": "invalid", "field": problem.field, "message": problem.message}
        report({"event": "failed", "error": error})
    else:
        report({"event": "done", "metrics": metrics})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
