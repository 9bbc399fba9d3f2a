"""Run one cell: the product's own job, with what a benchmark need not measure again left out."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.transfer.cells import ARMS, Cell, cell_json, dataset_id, spec_of, steps_of
from benchmarks.transfer.controls import place
from benchmarks.transfer.data import PAIRS
from core.pruning import run as job
from core.pruning import stages

TEACHER_FILES = ("teach.safetensors", "teach.json")  # the second makes the first valid


def start() -> None:
    """Of a worker process."""
    torch.set_num_threads(1)


def run_cell(
    cell: Cell, model: Path, tables: Mapping[str, Path], kept: Path, steps: Mapping[str, int], code: str
) -> dict[str, Any]:
    """The line of one run of `code`. The dense teacher is taken from `kept` if it is there, or left there."""
    spec, arm, pair = spec_of(cell, steps, model.name), ARMS[cell.arm], PAIRS[cell.pair]
    names = [pair.target] + [pair.source] * bool(spec.sources)
    notes: list[str] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="transfer-") as folder:
        state = Path(folder) / "state"
        state.mkdir()
        reused = (kept / TEACHER_FILES[-1]).exists()

        def taught() -> None:
            if arm.control is not None:
                place(arm.control, model, state, spec.budget, cell.seed)

        def report(message: Mapping[str, Any]) -> None:
            if message["event"] == "note":
                notes.append(str(message["message"]))
            if message["event"] == "saved" and message["stage"] == "teach":
                if arm.transfer["coupling"] != "auto":  # its trials leave more than a teacher
                    _keep(state, kept)
                taught()

        if reused:
            for name in TEACHER_FILES:
                shutil.copy(kept / name, state / name)
            taught()
        datasets = {dataset_id(name): tables[name] for name in names}
        # Latency is not asked here, and that a checkpoint loads in a fresh process the product's tests show.
        with patch.object(stages, "latencies_ms", _no_latency), patch.object(job, "verify", _no_verifying):
            found = job.run(spec, job.ModelRef(model, model.name), datasets, Path(folder), report)
    results = found["results"]
    return {
        "cell": cell_json(cell),
        "steps": steps_of(arm, steps),
        "metric": pair.metric,
        "pruned": results["pruned"]["test"],
        "dense": results["dense"]["test"],
        "encoder_params": results["pruned"]["encoder_params"],
        "fraction": round(found["budget"]["fraction"], 5),
        "structure": found["structure"],
        "transfer": found["transfer"],
        "data": found["data"],
        "notes": notes,
        "seconds": {**found["timings_s"], "all": round(time.monotonic() - began, 1)},
        "teacher_reused": reused,
        "model": model.name,
        "environment": found["environment"] | _peer(arm.control),
        "revision": code,
    }


def _keep(state: Path, kept: Path) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    for name in TEACHER_FILES:
        fresh = kept / f".{name}.tmp"
        shutil.copy(state / name, fresh)
        fresh.replace(kept / name)


def _no_latency(models: Mapping[str, Any], *_args: Any, **_options: Any) -> dict[str, dict[str, float]]:
    return {name: {"1": 1.0, "32": 1.0} for name in models}


def _no_verifying(_checkpoint: Path, _measured: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _peer(control: str | None) -> dict[str, str]:
    if control != "magnitude":
        return {}
    try:
        return {"torch-pruning": version("torch-pruning")}
    except PackageNotFoundError:
        return {"torch-pruning": "unknown"}
