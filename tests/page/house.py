"""A ledger with a job of every kind, as workers would have left it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from core.ledger import datasets, workers
from core.ledger.database import Database
from core.ledger.files.stores import open_storage
from core.ledger.jobs import attempts, claims, owner
from core.ledger.settings import Settings
from core.ledger.tables import DEFAULT_TENANT
from core.spec.job import JobSpec
from tests.api.conftest import MODEL, reviews
from tests.reports import family, report

DEVICE = {"type": "cpu", "cpus": 4, "memory_bytes": 16 * 10**9, "gpus": []}
STAGES = (("data", 0), ("teach", 40), ("prune", 20), ("recover", 60), ("measure", 0), ("export", 0))


class House:
    """Makes jobs and data sets of a tenant."""

    def __init__(self, settings: Settings, database: Database, tenant_id: str = DEFAULT_TENANT) -> None:
        self.settings, self.database, self.tenant_id = settings, database, tenant_id
        self.storage = open_storage(settings)

    def data(self, name: str = "reviews.csv", rows: int = 60, content: bytes | None = None) -> str:
        """A data set; returns its id."""
        file = self.settings.data_dir / "upload"
        file.write_bytes(reviews(rows) if content is None else content)
        row = datasets.ingest([file], name, self.storage, self.settings, self.tenant_id)
        with self.database.begin() as session:
            session.add(row)
        return row.id

    def queued(self, data: str, **changes: Any) -> str:
        """A job that waits; returns its id."""
        values = {"model": MODEL, "task": {"data": {"dataset": data}}, "budget": {"params": 0.3}} | changes
        if "budgets" in changes:
            del values["budget"]
        with self.database.begin() as session:
            job, _ = owner.create(session, self.tenant_id, JobSpec.model_validate(values), 3)
        return job.id

    def say(self, job_id: str, attempt: int = 1, **message: Any) -> None:
        """A message of the child that does the job's work."""
        with self.database.begin() as session:
            attempts.report(session, job_id, attempt, message)

    def run(self, job_id: str, until: str = "recover", worker: str = "worker-1", control: bool = False) -> int:
        """Claim the job, and say what a child says up to the middle of a stage; returns the attempt."""
        with self.database.begin() as session:
            job = claims.claim(session, job_id, worker, 3600)
        assert job is not None
        done = 0.0
        for stage, steps in STAGES:
            self.say(job_id, job.attempt, event="stage", stage=stage)
            last = steps // 2 if stage == until else steps
            for step in range(0, last, 4):
                quality = 0.9 - 0.4 * math.exp(-step / 12)
                progress = {"step": step, "steps": steps, "dev": {"accuracy": quality, "loss": 1 - quality}}
                progress |= {"sparsity": step / steps} if stage == "prune" else {}
                done += 0.02
                self.say(job_id, job.attempt, event="progress", stage=stage, overall=done, eta_s=95.0, **progress)
            if stage == "prune":
                self.say(job_id, job.attempt, event="structure", heads=[[2, 4], [1, 4]], neurons=[[20, 32], [0, 32]])
            if stage == until:
                break
        self.say(job_id, job.attempt, event="note", message="3 of 60 rows are left out: their text is empty.")
        return job.attempt

    def trained(self, job_id: str, size: str, quality: float, weights: int, attempt: int = 1) -> None:
        """One of several sizes is."""
        intervals = {
            name: {"value": value, "low": value - 0.03, "high": value + 0.03}
            for name, value in (("quality", quality), ("dense", 0.9), ("change", quality - 0.9))
        }
        said = intervals | {"size": size, "metric": "accuracy", "bytes": weights, "dense_bytes": 52_000_000}
        self.say(job_id, attempt, event="size", **said)

    def succeed(self, job_id: str, metrics: Mapping[str, Any], files: Mapping[str, bytes] | None = None) -> None:
        """End a job that runs, with its report."""
        outputs = {}
        page = b"<!doctype html><title>r</title><h1>The report</h1><p>All of it.</p>"
        rows = b"".join(_row(i, i % 5 > 0) for i in range(50))
        content: dict[str, bytes] = {"report.html": page, "report.json": json.dumps(metrics).encode()}
        content |= {"model.safetensors": bytes(4000), "load.py": b"pass\n", "test.jsonl": rows} | dict(files or {})
        for path, data in content.items():
            file = self.settings.data_dir / "upload"
            file.write_bytes(data)
            outputs[path] = self.storage.put(file)
        with self.database.begin() as session:
            attempts.succeed(session, job_id, 1, dict(metrics), outputs)

    def worker(self, name: str = "worker-1", **device: Any) -> None:
        """One that says that it is there."""
        with self.database.begin() as session:
            workers.seen(session, name, 1, DEVICE | device)


LATENCY = {
    **{"runtime": "onnx", "device": "cpu", "device_name": "CPU", "threads": 2, "batch_size": 1, "length": 128},
    **{"lowest_ms": 0.31, "dense_ms": 13.4, "curve": [{"left": 0.5, "ms": 7.0}, {"left": 0.1, "ms": 1.5}]},
}


def _row(i: int, right: bool) -> bytes:
    line = {"text": [f"review {i}"], "label": "neg", "predicted": "neg" if right else "pos"}
    return json.dumps(line).encode() + b"\n"


LABELS = {"team": "search", "of": "Übersicht Отзывы"}
FAMILY = {
    "report.html": b'<h1>Both</h1><a href="params-0.4/report.html">params-0.4</a>',
    "params-0.4/report.html": b"<p>small",
    "params-0.4/test.jsonl": b"".join(_row(i, i % 4 > 0) for i in range(50)),
}


def fill(house: House) -> dict[str, str]:
    """One of everything: name -> id."""
    data, own = house.data("product reviews.csv"), house.data("unlabelled mails.csv", 40, b"text\n" + _texts(40))
    movies = house.data("movie reviews.csv", 80)
    found = {"data": data, "own": own, "movies": movies}
    found["done"] = house.queued(data, title="Reviews to a third", labels={"team": "search"})
    house.run(found["done"], "export")
    house.succeed(found["done"], _report())
    source = [{"data": {"dataset": movies}, "label": "label"}]
    found["other"] = house.queued(data, sources=source, budget={"params": 0.15}, labels=LABELS)
    house.run(found["other"], "export")
    house.succeed(found["other"], _report(0.87, 0.845), {"test.jsonl": b"".join(_row(i, i % 6 > 0) for i in range(50))})
    found["family"] = house.queued(data, budgets=[{"params": 0.4}, {"params": 0.1}], title="Two sizes")
    house.run(found["family"], "export")
    house.succeed(found["family"], family(), FAMILY)
    found["failed"] = house.queued(data, title="Faster than can be", budget={"latency_ms": 0.01})
    house.run(found["failed"], "prune")
    with house.database.begin() as session:
        attempts.give_back(session, found["failed"], 1, "its process was killed by signal 9 (no memory was left)")
    attempt = house.run(found["failed"], "teach")
    reason = {"code": "unreachable", "field": "/budget/latency_ms", "message": "0.9 ms to 8.7 ms can be reached here"}
    with house.database.begin() as session:
        attempts.fail(session, found["failed"], attempt, reason)
    found["cancelled"] = house.queued(data)
    with house.database.begin() as session:
        owner.cancel(session, house.tenant_id, found["cancelled"])
    unlabelled = {"data": {"dataset": own}}
    task = {"data": {"dataset": data}, "unlabelled": unlabelled}
    found["running"] = house.queued(data, task=task, title="Live: reviews with own mails", control=True)
    house.run(found["running"])
    found["queued"] = house.queued(data, resources={"device": "cuda"})
    house.worker()
    return found


def _report(dense: float = 0.876, pruned: float = 0.819) -> dict[str, Any]:
    points = [{"step": 10 * i, "accuracy": 0.5 + 0.03 * i, "loss": 1 / (i + 1)} for i in range(1, 11)]
    made = report(curves={"teach": {"points": points}, "recover": {"points": points}})
    for name, value in (("dense", dense), ("pruned", pruned)):
        made["results"][name]["test"]["accuracy"] = {"value": value, "low": value - 0.02, "high": value + 0.02}
    return made | {"warnings": ["100 test rows tell accuracies apart by ten points at best"]}


def _texts(count: int) -> bytes:
    return "\n".join(f"mail {i} about a parcel" for i in range(count)).encode()
