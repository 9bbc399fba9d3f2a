"""The main job through real processes: the API, the relay, a Celery worker and the broker, as a user starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Server, command_line, eventually, specification, write_reviews
from topwork.files import file_sha256

LONG = {"teach": 20, "recover": 4000}


@pytest.mark.slow
def test_a_job_survives_the_kill_of_its_worker(server: Server, submitted: Callable[..., str], tmp_path: Path) -> None:
    train = {"steps": LONG, "max_length": 32, "batch_size": 8}
    job_id = submitted(specification(train=train))
    eventually(lambda: server.job(job_id)["stage"] == "recover", "the job recovers")
    worker = server.kill_worker()

    watched = server.topwork("watch", job_id)

    job = server.job(job_id)
    assert (job["status"], job["attempt"]) == ("succeeded", 2), watched.stdout
    assert "succeeded, attempt 2 of 3, 100% overall" in watched.stdout
    assert server.pids("-m worker") not in ([], [worker])
    _check_download(server, job, tmp_path / "checkpoint")


@pytest.mark.slow
def test_a_job_of_two_sizes_goes_on_between_them(server: Server, submitted: Callable[..., str], tmp_path: Path) -> None:
    sizes = ("params-0.4", "params-0.2")
    train = {"steps": {"teach": 20, "recover": 2000}, "max_length": 32, "batch_size": 8}
    budgets = [{"params": 0.2}, {"params": 0.4}]
    job_id = submitted(specification(train=train, budget=None, budgets=budgets))

    def at_the_second() -> bool:
        progress = server.job(job_id)["progress"]
        return (progress.get("stage"), progress.get("size")) == ("recover", sizes[1])

    eventually(at_the_second, "the second size recovers")
    server.kill_worker()
    watched = server.topwork("watch", job_id)

    job = server.job(job_id)
    assert (job["status"], job["attempt"]) == ("succeeded", 2), watched.stdout
    assert [size["name"] for size in job["metrics"]["sizes"]] == [*sizes]
    assert all(name in watched.stdout for name in sizes)
    begun = [event.data for event in server.client.jobs.events(job_id) if event.type == "stage"]
    assert [one.get("size") for one in begun if one["stage"] == "recover"] == [*sizes, *sizes]
    for size in job["metrics"]["sizes"]:
        folder = tmp_path / size["name"]
        server.topwork("download", job_id, folder, "--size", size["name"])
        measured = _measure(folder)
        assert measured["accuracy"] == size["result"]["test"]["accuracy"]["value"]
        assert measured["model_params"] == size["result"]["model_params"]
        page = server.http.get(f"/v1/jobs/{job_id}/{size['name']}/report.html")
        assert page.status_code == 200 and page.content == (folder / "report.html").read_bytes()


def _check_download(server: Server, job: dict[str, Any], folder: Path) -> None:
    """Every file is what the server says; a new process measures what the report says."""
    server.topwork("download", job["id"], folder)
    files = server.client.jobs.files(job["id"])
    assert {file.path for file in files} >= {"model.safetensors", "config.json", "load.py", "report.json"}
    for file in files:
        assert file_sha256(folder / file.path) == file.sha256
    report = json.loads((folder / "report.json").read_text())
    assert report == job["metrics"]
    measured = _measure(folder)
    pruned = report["results"]["pruned"]
    assert measured["accuracy"] == pruned["test"]["accuracy"]["value"]
    assert measured["model_params"] == pruned["model_params"]
    assert pruned["encoder_params"] <= 0.4 * report["results"]["dense"]["encoder_params"]


def _measure(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "cli.measure", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])[str(folder)]
    return found


def test_a_running_job_is_cancelled_at_once(server: Server, submitted: Callable[..., str]) -> None:
    train = {"steps": {"recover": 1_000_000}, "max_length": 32, "batch_size": 8}
    job_id = submitted(specification(train=train))
    eventually(lambda: server.job(job_id)["stage"] is not None, "the job runs")
    assert server.client.jobs.cancel(job_id).status in ("cancelling", "cancelled")
    eventually(lambda: server.job(job_id)["status"] == "cancelled", "cancelled")
    watched = server.topwork("watch", job_id, check=False)
    assert (watched.returncode, watched.stderr.strip()) == (3, f"job {job_id} cancelled")


@pytest.mark.slow
def test_five_lines_from_a_file_to_a_checkpoint(server: Server, tmp_path: Path) -> None:
    reviews = write_reviews(tmp_path / "five.csv", 200, 5)
    client = server.client
    train = {"steps": {"teach": 20, "recover": 20}, "max_length": 32, "batch_size": 8}
    job = client.jobs.submit(model="tiny", data=reviews, budget="40%", title="five", train=train)
    assert client.jobs.wait("five", timeout=600).id == job.id
    files = client.jobs.download(job, tmp_path / "pruned")
    assert "model.safetensors" in files and client.jobs.report(job) == client.jobs.get(job).metrics
    assert client.jobs.report(job, html=True).startswith("<!doctype html>")
    assert client.data.get("five.csv").rows == 200
    named = client.jobs.plan(model="tiny", data="five.csv", budget="40%", train=train)
    assert named.spec["task"]["data"]["dataset"] == client.data.get("five.csv").id
    said = server.topwork("compare", job.id, "five").stdout
    assert "accuracy, pruned" in said


@pytest.mark.slow
def test_a_watch_survives_that_the_server_is_started_again(tiny_model: Path, tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    (server.data_dir / "models").mkdir(parents=True)
    (server.data_dir / "models" / "tiny").symlink_to(tiny_model)
    server.start()
    reviews = write_reviews(tmp_path / "reviews.csv", 200, 6)
    train = {"steps": LONG, "max_length": 32, "batch_size": 8}
    job = server.client.jobs.submit(model="tiny", data=reviews, budget="40%", train=train)
    shown, wrong = tmp_path / "shown", tmp_path / "wrong"
    environment = {**server.environment, "PYTHONUNBUFFERED": "1"}
    with shown.open("w") as said, wrong.open("w") as failed:
        command = [sys.executable, "-m", "cli", "watch", job.id]
        watch = subprocess.Popen(command, env=environment, stdout=said, stderr=failed)
    try:
        eventually(lambda: server.job(job.id)["stage"] == "recover", "the job recovers")
        server.stop()
        eventually(lambda: "the server is away" in shown.read_text(), "the watch misses the server")
        server.start()
        assert (watch.wait(600), wrong.read_text()) == (0, "")
    finally:
        watch.kill()
        server.stop()
    assert f"{job.id}: succeeded" in shown.read_text()


@pytest.mark.slow
def test_a_job_with_a_source_succeeds(server: Server, tmp_path: Path) -> None:
    spec = specification(sources=[{"data": {"dataset": "@films"}, "label": "label"}])
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    reviews = write_reviews(tmp_path / "reviews.csv", 200, 2)
    films = write_reviews(tmp_path / "films.csv", 300, 3)
    done = server.topwork(
        "submit", tmp_path / "spec.json", "--data", f"reviews={reviews}", "--data", f"films={films}", "--watch"
    )
    job = server.job(done.stdout.splitlines()[0])
    transfer = job["metrics"]["transfer"]
    assert transfer["asked"] == "auto" and transfer["auto"]["chosen"].startswith(transfer["coupling"])
    assert job["metrics"]["data"]["sources"] == [300]


BAD_FILES = {
    "empty": b"",
    "header only": b"text,label\n",
    "half of a text": b'text,label\n"never closed,positive\n',
    "ragged": b"text,label\na,b,c\n",
}
BAD_SPECS: dict[str, tuple[str, dict[str, Any]]] = {
    "missing column": ("/task/label", {"task": {"data": {"dataset": "@reviews"}, "label": "stars"}}),
    "too many rows": ("/task/split", {"task": {"data": {"dataset": "@reviews"}, "split": {"train": 5000, "dev": 9}}}),
    "budget out of reach": ("/budget/params", {"budget": {"params": 0.000001}}),
    "unknown model": ("/model", {"model": "no-such-model"}),
    "a path as model": ("/model", {"model": "../../etc"}),
    "unknown field": ("/trian", {"trian": {"seed": 1}}),
    "planned method": ("/method/name", {"method": {"name": "channels"}}),
}


def test_wrong_requests_are_answered_and_the_server_lives(server: Server, tmp_path: Path) -> None:
    for name, content in BAD_FILES.items():
        answer = server.http.post("/v1/datasets", files={"file": ("bad.csv", content)})
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), name
    spec, reviews = tmp_path / "spec.json", write_reviews(tmp_path / "reviews.csv", 200, 1)
    for name, (field, changes) in BAD_SPECS.items():
        spec.write_text(json.dumps(specification(**changes)))
        refused = server.topwork("submit", spec, "--data", f"reviews={reviews}", check=False)
        assert refused.returncode == 1, name
        assert any(line.startswith(f"{field}: ") for line in refused.stderr.splitlines()), f"{name}: {refused.stderr}"
    assert server.ready()


def test_a_part_that_dies_is_started_again(server: Server) -> None:
    before = {pid for pid in server.descendants() if "-m api" in command_line(pid) or "valkey" in command_line(pid)}
    assert len(before) == 2
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: server.ready() and not before & set(server.descendants()), "ready again")


def test_a_second_serve_on_the_same_folder_is_refused(server: Server) -> None:
    second = server.topwork("serve", "--port", "1", "--data-dir", server.data_dir, check=False)
    assert second.returncode == 1
    assert second.stderr.startswith("another `topwork serve` runs on")
    assert server.ready()


def test_a_port_in_use_is_refused(server: Server, tmp_path: Path) -> None:
    refused = server.topwork("serve", "--port", server.port, "--data-dir", tmp_path / "other", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"port {server.port} on 127.0.0.1: Address already in use")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_behind(how: signal.Signals, tmp_path: Path) -> None:
    # A path that is too long for a unix socket, at that.
    server = Server(tmp_path / ("long-" * 20) / "data")
    server.data_dir.mkdir(parents=True)
    server.start()
    eventually(lambda: len(server.descendants()) == 4, "API, relay, worker and broker run")
    processes = {pid: command_line(pid) for pid in server.descendants()}
    assert server.process is not None
    server.process.send_signal(how)
    code = server.process.wait(120)
    assert code == (-how if how == signal.SIGKILL else 0)
    eventually(lambda: not any(command_line(pid) == line for pid, line in processes.items()), "all are gone")
    if how == signal.SIGKILL:  # nothing of the old run is in the way of a new one
        server.start()
        server.stop()
