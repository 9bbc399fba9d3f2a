"""A job of pictures through real processes, whose worker is killed on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.e2e.conftest import Server, eventually
from tests.tiny_images import SIDE, pictures, save_tiny_mobilenet
from topwork.files import file_sha256

SPEC = {
    "model": "tiny-mobilenet",
    "task": {
        "type": "image-classification",
        "data": {"dataset": "@shapes"},
        "split": {"train": 60, "dev": 30},
    },
    "budget": {"macs": 0.5},
    "train": {"steps": {"teach": 20, "recover": 400}, "image_size": SIDE, "batch_size": 8},
    "export": {"formats": ["safetensors", "onnx"]},
}


@pytest.mark.slow
def test_a_job_of_pictures_survives_the_kill_of_its_worker(server: Server, tmp_path: Path) -> None:
    model = server.data_dir / "models" / "tiny-mobilenet"
    model.mkdir()
    save_tiny_mobilenet(model)
    shapes = tmp_path / "shapes.zip"
    with zipfile.ZipFile(shapes, "w") as archive:
        for name, content in pictures(180, seed=1).items():
            archive.writestr(name, content)
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    job_id = server.topwork("submit", tmp_path / "spec.json", "--data", f"shapes={shapes}").stdout.strip()
    eventually(lambda: server.job(job_id)["stage"] == "recover", "the job recovers")
    server.kill_worker()

    watched = server.topwork("watch", job_id)

    job = server.job(job_id)
    assert (job["status"], job["attempt"]) == ("succeeded", 2), watched.stdout
    checkpoint = tmp_path / "checkpoint"
    server.topwork("download", job_id, checkpoint)
    for file in server.client.jobs.files(job_id):
        assert file_sha256(checkpoint / file.path) == file.sha256
    report = json.loads((checkpoint / "report.json").read_text())
    assert report == job["metrics"]
    # A new process, by the pictures of the original zip: both files answer as the report says.
    command = [sys.executable, "-m", "cli.measure_images", str(shapes), str(checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout.splitlines()[-1])
    found, pruned = measured[str(checkpoint)], report["results"]["pruned"]
    assert found["accuracy"] == found["onnx_accuracy"] == pruned["test"]["accuracy"]["value"]
    assert found["model_params"] == pruned["model_params"]
    assert pruned["macs"] <= 0.5 * report["results"]["dense"]["macs"]
    assert {*measured["dense"]["latency_ms"]} == {*found["latency_ms"]} == {"1", "32"}
