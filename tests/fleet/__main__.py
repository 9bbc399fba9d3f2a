"""`make fleet`: build both images, start the fleet of docker-compose.yml, prune a real small model, say what it took.

Two API behind nginx, two workers, and an S3 server for the files.

Needs root, Docker and debootstrap, and the demo's model and data (`topwork fetch-demo`).
"""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path

import httpx

from tests.fleet import bases, beside
from tests.fleet.bases import ROOT, docker
from tests.fleet.composed import Fleet

PORT = 8011
MODEL = "all-minilm-l6-v2"
STEPS = {"teach": 30, "recover": 30}
ENDED = ("succeeded", "failed", "cancelled")


def build() -> dict[str, int]:
    """Both images, of the checkout as it is; their sizes in MB."""
    bases.make()
    for target in ("api", "worker"):
        docker("build", "--quiet", "--target", target, "--tag", f"topwork-{target}", str(ROOT))
    names = ("topwork-api", "topwork-worker")
    return {name: int(docker("image", "inspect", "--format", "{{.Size}}", name)) // 10**6 for name in names}


def prune(fleet: Fleet, data: Path, up_at: float) -> str:
    """Prune the demo's model for its task, as the docs say; what came of it, in a line."""
    key = fleet.once("api", "topwork", "keys", "create")
    fleet.put("api.0", data / "models" / MODEL, "/data/models/")
    with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", headers={"Authorization": f"Bearer {key}"}) as client:
        with (data / "demo" / "products.csv").open("rb") as file:
            dataset = client.post("/v1/datasets", files={"file": file}, timeout=60).raise_for_status().json()
        spec = {
            "model": MODEL,
            "task": {"data": {"dataset": dataset["id"]}, "split": {"train": 100, "dev": 100, "test": 500}},
            "budget": {"params": 0.1},
            "train": {"steps": STEPS, "max_length": 64},
        }
        began = time.monotonic()
        answer = client.post("/v1/jobs", json=spec, timeout=60)
        assert answer.status_code == 202, answer.text
        accepted = began - up_at
        address = answer.headers["location"]
        while (job := client.get(address, timeout=60).json())["status"] not in ENDED:
            time.sleep(1)
        assert job["status"] == "succeeded", job["error"]
        files = client.get(f"{address}/files").json()["items"]
        took = time.monotonic() - began
    return f"a job of {STEPS} steps, accepted {accepted:.0f} s after the start, took {took:.0f} s: {len(files)} files"


def main() -> None:
    """Print what it took."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, default=Path("data"), help="where topwork fetch-demo has left its files")
    data = options.parse_args().data
    subprocess.run(["docker", "info"], check=True, stdout=subprocess.DEVNULL)
    began = time.monotonic()
    sizes = build()
    print(
        f"images in {time.monotonic() - began:.0f} s: " + ", ".join(f"{name} {mb:,} MB" for name, mb in sizes.items())
    )
    beside.make()
    fleet, began = Fleet("topwork-fleet", beside.STORAGE, PORT, ["s3", "nginx"]), time.monotonic()
    try:
        fleet.up({"api": 2, "worker": 2})
        print(f"up in {time.monotonic() - began:.0f} s: {', '.join(fleet.started)}")
        print(prune(fleet, data, began))
    finally:
        fleet.end()


if __name__ == "__main__":
    main()
