"""Run one cell: the product's own job, with what a benchmark need not measure again left out."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.methods.peers import by_torch, gradual
from benchmarks.transfer.cells import AS_ARM, EVERY, Cell, cell_json, dataset_id, spec_of, steps_of
from benchmarks.transfer.cofi import cofi_losses
from benchmarks.transfer.controls import place
from benchmarks.transfer.data import PAIRS
from benchmarks.unverified import nothing_seen
from core.die_with_parent import die_with_parent
from core.pruning.job import measure, publish
from core.pruning.job import run as job
from core.spec.messages import Message, Note, Saved, StageBegun, StageProgress
from core.spec.report import Report

TEACHER_FILES = ("teach.safetensors", "teach.json")  # the second makes the first valid

IN_PLACE: Mapping[str, Any] = {"cofi": cofi_losses, "gradual": gradual, "torch": by_torch}  # of the product's own


def start() -> None:
    """Of a worker process, which must not outlive the benchmark."""
    die_with_parent()
    torch.set_num_threads(1)


def run_cell(
    cell: Cell, model: Path, tables: Mapping[str, Path], kept: Mapping[str, Path], steps: Mapping[str, int], code: str
) -> dict[str, Any]:
    """The line of one run of `code`. `kept`: where the dense teacher of each arm is taken from, or left for others."""
    spec, arm, pair = spec_of(cell, steps, model.name), EVERY[cell.arm], PAIRS[cell.pair]
    names = [pair.target] + [pair.source] * bool(spec.sources)
    notes: list[str] = []
    cpu: dict[str, float] = {}
    began, last = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory(prefix="transfer-") as folder:
        state = Path(folder) / "state"
        state.mkdir()
        shared, reused = kept[cell.arm], False

        def take_teacher() -> None:
            nonlocal reused
            reused = (shared / TEACHER_FILES[-1]).exists()
            for name in TEACHER_FILES if reused else ():
                shutil.copy(shared / name, state / name)
            if reused:
                taught()

        def taught() -> None:
            if arm.control in ("small-dense", "magnitude"):
                place(arm.control, model, state, spec.budget)

        def report(message: Message) -> None:
            nonlocal last
            if isinstance(message, StageBegun | StageProgress | Saved) and message.stage != "part":
                now = time.process_time()  # what was computed since the last message belongs to it
                cpu[message.stage] = cpu.get(message.stage, 0.0) + now - last
                last = now
            if isinstance(message, Note):
                notes.append(message.message)
            if isinstance(message, Saved) and message.stage == "auto":  # the job goes on as another arm
                nonlocal shared
                shared = kept[AS_ARM[json.loads((state / "auto.json").read_text())["chosen"]]]
                take_teacher()
            if isinstance(message, Saved) and message.stage == "teach":
                _keep(state, shared)
                taught()

        if cell.arm != "auto":
            take_teacher()
        datasets = {dataset_id(name): tables[name] for name in names}
        # Latency is not asked here, and that a checkpoint loads in a fresh process the product's tests show.
        with (
            patch.object(measure, "latencies_ms", _no_latency),
            patch.object(publish, "verify", nothing_seen),
            IN_PLACE.get(arm.control or "", nullcontext)(),
        ):
            found = job.run(spec, job.ModelRef(model, model.name), datasets, Path(folder), report)
    assert isinstance(found, Report)
    results = found.results
    return {
        "cell": cell_json(cell),
        "steps": steps_of(arm, steps),
        "metric": pair.metric,
        "pruned": results.pruned.model_dump()["test"],
        "dense": results.dense.model_dump()["test"],
        "encoder_params": results.pruned.encoder_params,
        "fraction": round(found.budget.fraction, 5),
        **found.model_dump(include={"structure", "transfer", "data"}),
        "notes": notes,
        "seconds": {**found.timings_s, "all": round(time.monotonic() - began, 1)},
        "cpu_seconds": {stage: round(seconds, 2) for stage, seconds in cpu.items()},
        "teacher_reused": reused,
        "model": model.name,
        "environment": found.environment.model_dump() | _peer(arm.control),
        "revision": code,
    }


def _keep(state: Path, kept: Path) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    for name in TEACHER_FILES:
        fresh = kept / f".{name}.{os.getpid()}.tmp"  # `auto` may teach what another worker teaches
        shutil.copy(state / name, fresh)
        fresh.replace(kept / name)


def _no_latency(models: Mapping[str, Any], *_args: Any, **_options: Any) -> dict[str, dict[str, float]]:
    return {name: {"1": 1.0, "32": 1.0} for name in models}


def _peer(control: str | None) -> dict[str, str]:
    if control != "magnitude":
        return {}
    try:
        return {"torch-pruning": version("torch-pruning")}
    except PackageNotFoundError:
        return {"torch-pruning": "unknown"}
