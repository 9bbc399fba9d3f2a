"""A job that several processes share ends as one that is alone; they die together, and are resumed together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.spec.job import JobSpec
from tests.tiny import rows

DATASET = "ds_" + "1" * 32
ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
LAUNCH = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--num_processes", "2")
PLAIN = ("--gpu_ids", "all", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0")


@pytest.mark.slow
def test_every_loop_that_two_processes_share_ends_where_one_alone_does(tiny: Path, tmp_path: Path) -> None:
    """To rounding; Adam lets that grow where a gradient is next to nothing."""
    program = ("--module", "tests.pruning.shared_program", str(tiny), str(tmp_path / "found.json"))
    subprocess.run([sys.executable, *LAUNCH, *PLAIN, *program], env=ENVIRONMENT, cwd=ROOT, check=True)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found.keys() == {"gradients", "train", "resumed", "tags", "l0", "pdp", "zeros", "fisher"}
    most = {"gradients": 1e-6, "fisher": 1e-4}
    assert {name: far for name, (far, _) in found.items() if not far < most.get(name, 1e-3)} == {}
    assert all(same for _, same in found.values())  # or the processes would drift apart


def start(workdir: Path, tiny: Path) -> subprocess.Popen[str]:
    """The child of a job for two processes, as its supervisor starts it."""
    spec = JobSpec.model_validate(
        {
            "model": "tiny",
            "task": {"data": {"dataset": DATASET}, "split": {"train": 60, "dev": 40}},
            "budget": {"params": 0.3},
            "train": {"steps": {"teach": 20, "recover": 20}, "learning_rate": 1e-3},
        }
    )
    (workdir / "inputs").mkdir(parents=True)
    (workdir / "state").mkdir(exist_ok=True)
    pq.write_table(pa.table(rows(200)), workdir / "inputs" / "rows.parquet")
    request = {
        "spec": spec.model_dump(mode="json"),
        "model": {"path": str(tiny), "name": "tiny", "revision": None},
        "datasets": {DATASET: "inputs/rows.parquet"},
        "names": {},
        "cache": str(workdir / "cache"),
        "processes": 2,
        "log": {},
    }
    (workdir / "request.json").write_text(json.dumps(request))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "worker.child", str(workdir)],
        env=ENVIRONMENT | {"SUPERVISOR_PID": str(os.getpid())},
        cwd=workdir,
        stdout=subprocess.PIPE,
        stderr=(workdir / "log.txt").open("w"),
        text=True,
        start_new_session=True,
    )


def members(workdir: Path) -> set[int]:
    """Processes that were started for the job."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str(workdir).encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                found.add(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_a_shared_job_that_is_killed_leaves_nothing_behind_and_goes_on(tiny: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    child = start(first, tiny)
    assert child.stdout is not None
    for line in child.stdout:
        if json.loads(line).get("stage") == "prune":
            break
    else:
        pytest.fail((first / "log.txt").read_text())
    assert len(members(first)) == 3  # the launcher, and a process for each part
    os.kill(child.pid, signal.SIGKILL)  # the launcher alone: the others die with it
    child.wait()
    deadline = time.monotonic() + 120
    while members(first):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    shutil.copytree(first / "state", second / "state")
    with start(second, tiny) as child:
        assert child.stdout is not None
        again: list[dict[str, Any]] = [json.loads(line) for line in child.stdout]
    assert child.returncode == 0, (second / "log.txt").read_text()
    assert not any(one["event"] == "progress" and one["stage"] == "teach" for one in again)
    stages = [one["stage"] for one in again if one["event"] == "stage"]
    assert stages == ["data", "teach", "prune", "recover", "measure", "export"]  # said once
    report = again[-1]["metrics"]
    assert report["environment"]["processes"] == 2
    assert 0.99 * report["budget"]["limit"] <= report["budget"]["met"] <= report["budget"]["limit"]
    assert report["verified"]["parameters"] == report["results"]["pruned"]["model_params"]
