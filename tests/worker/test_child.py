"""The child's entry point, with a stand-in for the pruning itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from core.spec.messages import NO_ROOM
from tests.ledger.helpers import DATASET, make_spec

PROGRAM = """
import os, sys, time, types
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from core.spec.messages import Saved, StageBegun

@dataclass(frozen=True)
class ModelRef:
    path: Any
    name: str
    revision: Any = None

class Found(dict):
    to_json = dict.copy

def run(spec, model, datasets, workdir, report, cache, names):
{body}

stub = types.ModuleType("core.pruning.job.run")
stub.ModelRef, stub.run = ModelRef, run
sys.modules["core.pruning.job.run"] = stub
from worker.child import main
main(Path(sys.argv[1]))
"""


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    request = {
        "spec": make_spec().model_dump(mode="json"),
        "model": {"path": "/models/tiny", "name": "tiny", "revision": None},
        "datasets": {DATASET: f"inputs/{DATASET}.parquet"},
        "names": {},
        "cache": str(tmp_path / "cache"),
        "processes": 1,
        "log": {"job": "job_1", "attempt": 2},
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    (tmp_path / "state").mkdir()
    return tmp_path


def play(workdir: Path, body: str, **environment: str) -> tuple[list[dict[str, Any]], str, int]:
    """Run the child with that body of `run`; returns (messages, stderr, exit code)."""
    program = PROGRAM.format(body="\n".join(f"    {line}" for line in body.strip().splitlines()))
    done = subprocess.run(
        [sys.executable, "-c", program, str(workdir)],
        env=os.environ | {"SUPERVISOR_PID": str(os.getpid())} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr, done.returncode


def test_it_hands_over_the_request_and_says_done_with_the_metrics(workdir: Path) -> None:
    body = """
report(StageBegun(stage="data"))
data = [str(path.relative_to(workdir)) for path in datasets.values()]
return Found(spec=spec.model, model=str(model.path), data=data)
"""
    messages, _, code = play(workdir, body)
    metrics = {"spec": "tiny", "model": "/models/tiny", "data": [f"inputs/{DATASET}.parquet"]}
    assert messages == [{"event": "stage", "stage": "data"}, {"event": "done", "metrics": metrics}]
    assert code == 0


def test_a_fault_of_the_request_is_the_last_line(workdir: Path) -> None:
    body = 'from core.spec.errors import SpecError; raise SpecError("/task/label", "has one class only")'
    messages, _, code = play(workdir, body)
    error = {"code": "invalid", "field": "/task/label", "message": "has one class only"}
    assert (messages, code) == ([{"event": "failed", "error": error}], 0)


def test_any_other_exception_is_a_crash_with_its_traceback_in_the_log(workdir: Path) -> None:
    messages, log, code = play(workdir, 'raise RuntimeError("CUDA out of memory")')
    assert (messages, code) == ([], 1)
    assert log.strip().endswith("RuntimeError: CUDA out of memory")


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ('OverflowError("cannot convert float infinity to integer")', "OverflowError: cannot convert float infinity"),
        ('ValueError("x" * 1000)', "ValueError: xxx"),
        ("KeyError(1)", "KeyError: 1"),
    ],
)
@pytest.mark.field("3. Under attack", "an error that every attempt would meet", "one attempt")
def test_an_exception_that_every_attempt_would_end_with_ends_the_job(workdir: Path, raised: str, said: str) -> None:
    messages, log, code = play(workdir, f"raise {raised}")
    assert code == 0 and "Traceback" in log
    error = messages[-1]["error"]
    assert error["code"] == "error" and error["message"].startswith(said) and len(error["message"]) < 400
    assert play(workdir, f"raise {raised}", RANK="1")[2] == 1  # the launcher ends the others


def test_a_full_disk_is_told_by_the_exit_code(workdir: Path) -> None:
    messages, log, code = play(workdir, 'raise OSError(28, "No space left on device")')
    assert (messages, code) == ([], NO_ROOM) and "No space left on device" in log


@pytest.mark.parametrize("raised", ['OSError(5, "Input/output error")', "MemoryError()", 'ImportError("torch")'])
def test_what_may_be_the_machines_fault_is_tried_again(workdir: Path, raised: str) -> None:
    messages, _, code = play(workdir, f"raise {raised}")
    assert (messages, code) == ([], 1)


def test_what_is_logged_names_the_job(workdir: Path) -> None:
    body = 'import logging; logging.getLogger("core.pruning").warning("cannot save %s", "it"); return Found()'
    _, log, _ = play(workdir, body)
    line = json.loads(log)
    assert (line["job"], line["attempt"], line["event"]) == ("job_1", 2, "cannot save it")


def test_prints_of_libraries_go_to_the_log(workdir: Path) -> None:
    messages, log, _ = play(workdir, 'print("hello"); os.system("echo from a process"); return Found()')
    assert messages == [{"event": "done", "metrics": {}}]
    assert "hello" in log and "from a process" in log


def test_a_save_is_frozen_when_it_is_said(workdir: Path) -> None:
    body = """
for step in (1, 2):
    new = workdir / "new"
    new.write_text(str(step))
    new.rename(workdir / "state" / "step")
    report(Saved(stage="teach"))
(workdir / "state" / "step").unlink()
return Found()
"""
    messages, _, _ = play(workdir, body)
    folders = [message["folder"] for message in messages if message["event"] == "saved"]
    assert [(workdir / folder / "step").read_text() for folder in folders] == ["1", "2"]


def test_it_does_not_start_without_its_supervisor(workdir: Path) -> None:
    messages, log, code = play(workdir, "return Found()", SUPERVISOR_PID="1")
    assert (messages, code) == ([], 1) and "supervisor is gone" in log


def test_it_dies_with_its_supervisor(workdir: Path) -> None:
    """A supervisor that is killed takes the child along, at once."""
    program = PROGRAM.format(body='    report(StageBegun(stage="data")); time.sleep(600)')
    supervisor = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {program!r}, {str(workdir)!r}], stdout=subprocess.PIPE,
                         env=os.environ | {{"SUPERVISOR_PID": str(os.getpid())}}, start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
    with subprocess.Popen([sys.executable, "-c", supervisor], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = Path(f"/proc/{int(process.stdout.readline())}")
        assert child.exists()
        process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 120
        while child.exists() and "\nState:\tZ" not in (child / "status").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
