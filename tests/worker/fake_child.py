"""Stands in for `worker.child`: does what the job's label `do` says, with real processes, pipes and files.

Every start leaves a file named after it in the folder that the label `log` names: attempts can be counted.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from core.spec.messages import NO_ROOM, Done, Failed, Fault, Note, Saved, StageBegun, StageProgress
from worker.child import Reporter, die_with_parent

LAUNCHER = """\
[rank1]: RuntimeError: CUDA out of memory
E1121 17:12:29.269000 1 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: 1) local_rank: 1
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
Root Cause (first observed failure):
[0]:
  exitcode  : EXITCODE (pid: 31060)
============================================================
"""


def main(workdir: Path) -> None:
    die_with_parent()
    request = json.loads((workdir / "request.json").read_text())
    labels = request["spec"]["labels"]
    traces = Path(labels["log"])
    facts = {**os.environ, "processes": request["processes"]}
    (traces / f"{workdir.parent.name}-{workdir.name}-{os.getpid()}").write_text(json.dumps(facts))
    report = Reporter(workdir)
    print("a stray print must do no harm")
    if labels["do"] == "spec error":
        return report(Failed(error=Fault(code="invalid", field="/budget/params", message="out of reach")))
    report(StageBegun(stage="teach"))
    step = resumed_from(workdir)
    report(Note(message=f"starting at step {step}"))
    run(labels["do"], int(labels.get("steps", "3")), step, workdir, report, traces)


def resumed_from(workdir: Path) -> int:
    state = workdir / "state" / "step.json"
    return int(json.loads(state.read_text())["step"]) if state.exists() else 0


def run(do: str, steps: int, step: int, workdir: Path, report: Reporter, traces: Path) -> None:
    while step < steps:
        step += 1
        time.sleep(0.1)
        temporary = workdir / "state" / ".step.json"
        temporary.write_text(json.dumps({"step": step}))
        temporary.rename(workdir / "state" / "step.json")
        report(StageProgress(stage="teach", step=step, steps=steps, overall=step / steps))
        if (
            do != "poison"
        ):  # how much was saved when its worker dies is luck, and an attempt that saves more is forgiven
            report(Saved(stage="teach"))
        misbehave(do, step, workdir, traces)
        if do == "crash late" and int(workdir.name) == 1 and step == steps - 1:
            time.sleep(1.2)  # as long as a slow storage may need for it
            raise RuntimeError("crashed")
    output = workdir / "output"
    (output / "sub").mkdir()
    (output / "model.safetensors").write_bytes(b"weights")
    (output / "sub" / "report.json").write_text("{}")
    (output / "link").symlink_to("/etc/passwd")
    report(Done(metrics={"steps": steps, "attempt": int(workdir.name)}))
    if do == "linger":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)


def misbehave(do: str, step: int, workdir: Path, traces: Path) -> None:
    attempt = int(workdir.name)
    if step < 2:
        return
    if do == "crash" or (do == "crash once" and attempt == 1):
        raise RuntimeError(f"no such file: {workdir}/state/secret")
    if do == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if do == "poison":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    if do.startswith("shared"):  # as `accelerate launch` tells of one of its processes
        sys.exit(LAUNCHER.replace("EXITCODE", do.partition(" ")[2]))
    if do == "no room":
        sys.exit(NO_ROOM)
    if do == "exit quietly":
        sys.exit(0)
    if do == "hang" or (do == "hang once" and attempt == 1):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        grandchild: subprocess.Popen[Any] = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (traces / f"grandchild-{grandchild.pid}").touch()
        time.sleep(600)
    if do == "flood":
        os.write(1, b"x" * (1 << 20))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
