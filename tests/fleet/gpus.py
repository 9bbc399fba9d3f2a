"""A worker with two GPUs, which are made up: who gets the job that asks for them, and as how many processes."""

from __future__ import annotations

from tests.fleet.__main__ import ENDED
from tests.fleet.bases import ROOT
from tests.fleet.site import Site

TOOL = ["--volume", f"{ROOT}/tests/fleet/nvidia-smi:/usr/local/bin/nvidia-smi:ro"]


def join(site: Site, address: str) -> str:
    """Ask for a job on two GPUs, which waits; replace the idle worker by one that has them, and see the job through."""
    asked = site.submit(resources={"gpus": 2})
    waiting = site.get(asked)["waiting"]
    assert waiting, "it does not say why it waits"
    idle = next(name for name in site.fleet.started if name.startswith("worker") and name != site.worker_of(address))
    site.fleet.replace(idle, words=TOOL)
    site.until(asked, lambda job: job["stage"] == "recover" and job["status"] == "running")
    (worker,) = [one for one in site.get("/v1/workers")["items"] if one["device"]["type"] == "cuda"]
    assert worker["busy"] and worker["name"].startswith(site.id_of(idle)), worker
    processes = [one for one in site.processes(idle) if "worker.child" in one and "accelerate" not in one]
    assert len(processes) == 2, processes
    job = site.until(asked, lambda job: job["status"] in ENDED)
    assert job["status"] == "succeeded", job["error"]
    return f"a job for two GPUs waited ({waiting}), then ran there as two processes, attempt {job['attempt']}"
