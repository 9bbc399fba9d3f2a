"""The process that does a job's work: `python -m worker.child WORKDIR`, started by the supervisor.

It reads WORKDIR/request.json and says what happens as JSON lines on its stdout; the last line is `done` or `failed`.
It knows no database, no broker and no secrets, and it dies with its supervisor. Where the request is for several
processes, it becomes `accelerate launch`, which starts this module once for each; they die with it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import threading
import traceback
from pathlib import Path

import structlog

from core.die_with_parent import die_with_parent
from core.ledger import logs
from core.spec.messages import NO_ROOM, Done, Failed, Fault, Listener, Message, Saved, line


class Reporter:
    """Writes messages to what was stdout at the start; prints of any library go to the log instead."""

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._saves = 0
        self._lock = threading.Lock()

    def __call__(self, message: Message) -> None:
        """Say one message. At `Saved`, the state is frozen before the caller can change it again."""
        with self._lock:
            if isinstance(message, Saved):
                try:
                    message = message.model_copy(update={"folder": self._freeze_state()})
                except OSError as error:  # a full disk: the job goes on, with more to lose
                    logging.getLogger("topwork.job").warning("cannot keep what was saved: %s", error)
                    return
            self._out.write(line(message))
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


def launch(workdir: Path, processes: int) -> None:
    """Become the launcher of so many processes of this job, each with a GPU of its own where there are any."""
    command = [sys.executable, "-P", "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
    command += ["--num_processes", str(processes), "--gpu_ids", "all", "--mixed_precision", "no"]
    command += ["--dynamo_backend", "no", "--main_process_port", "0", "--module", "worker.child", str(workdir)]
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // processes)))
    os.environ |= {"SUPERVISOR_PID": str(os.getpid()), "PYTHONSAFEPATH": "1", "GLOO_SOCKET_IFNAME": "lo"}
    os.execv(sys.executable, command)


def main(workdir: Path) -> None:
    """Run the job of `workdir`."""
    parent = os.environ.get("SUPERVISOR_PID")
    die_with_parent(int(parent) if parent is not None else None)
    request = json.loads((workdir / "request.json").read_text())
    logs.configure(os.environ.get("TOPWORK_LOG", "info"))
    structlog.contextvars.bind_contextvars(**request["log"])
    if request["processes"] > 1 and "RANK" not in os.environ:
        launch(workdir, request["processes"])
    report: Listener = Reporter(workdir)
    if int(os.environ.get("RANK", "0")):  # the first speaks for all
        report = lambda _message: None  # noqa: E731

    from core.pruning.job.run import ModelRef, run
    from core.spec.errors import SpecError
    from core.spec.job import JobSpec

    spec = JobSpec.model_validate(request["spec"])
    model = ModelRef(**request["model"] | {"path": Path(request["model"]["path"])})
    datasets = {name: workdir / path for name, path in request["datasets"].items()}
    try:
        found = run(spec, model, datasets, workdir, report, Path(request["cache"]), request["names"])
    except SpecError as problem:
        report(Failed(error=Fault(code="invalid", field=problem.field, message=problem.message)))
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        traceback.print_exc()
        sys.exit(NO_ROOM)
    except (MemoryError, RuntimeError, ImportError):  # what another machine, or another moment, may not do
        raise
    except Exception as unexpected:  # what every attempt would end with
        if int(os.environ.get("RANK", "0")):  # to which nobody listens
            raise
        traceback.print_exc()
        message = f"{type(unexpected).__name__}: {str(unexpected)[:300]}"
        report(Failed(error=Fault(code="error", message=message)))
    else:
        if found is not None:
            report(Done(metrics=found.to_json()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    if "RANK" in os.environ:  # a thread of torch.distributed may outlive what it uses, and abort what is done
        logging.shutdown()
        os._exit(0)
