"""Whether the milliseconds that a plan shows are those that jobs then measure: a probe, then ten jobs of its range.

    python -m benchmarks.reach [--data-dir DIR] [--threads N] [--table]

For each of three models and runtimes a job with `"probe": true` says what can be reached, as `POST /v1/jobs:validate`
shows it from then on. Ten jobs are then asked for limits from 5 % above the fastest to a tenth below dense, evenly on
a log scale. Each reads the fastest and the dense model anew; it trains for few steps, which changes no milliseconds.
What was measured is appended to results/reach.jsonl, and not measured again by the next run; reach.md is made of it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.images.data import PAIRS
from benchmarks.images.data import prepare as prepare_pictures
from benchmarks.say import say
from benchmarks.transfer.cells import append_result, read_results
from benchmarks.transfer.data import prepare as prepare_texts
from benchmarks.unverified import nothing_seen
from cli.fetch_images import fetch_model
from core.pruning.job import publish
from core.pruning.job import run as job
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from core.spec.messages import LatencyMeasured, Message
from core.spec.report import ProbeReport, Report

RESULTS = Path(__file__).parent / "results" / "reach.jsonl"
DATASET = "ds_" + "1" * 32
JOBS = 10
TEXT = {"type": "text-classification", "split": {"train": 64, "dev": 64, "test": 64}}
PICTURES = {"type": "image-classification", "split": {"train": 64, "dev": 64, "test": 64}}
SETUPS: Mapping[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # name -> model, task, budget
    "MiniLM, ONNX Runtime, batch 1, 64 tokens": ("all-minilm-l6-v2", TEXT, {"runtime": "onnx"}),
    "MiniLM, eager, batch 32, 64 tokens": ("all-minilm-l6-v2", TEXT, {"runtime": "torch", "batch_size": 32}),
    "MobileNetV2, ONNX Runtime, batch 1, 64 pixels": ("mobilenet-v2", PICTURES, {"runtime": "onnx"}),
}


def spec_of(setup: str, budget: Mapping[str, Any], probe: bool = False) -> JobSpec:
    """A job of few steps; units by their magnitude."""
    model, task, conditions = SETUPS[setup]
    sized = {"image_size": 64} if task is PICTURES else {"max_length": 64}
    few = {"seed": 0, "steps": {"teach": 2, "recover": 2}, **sized}
    made = {"model": model, "task": {**task, "data": {"dataset": DATASET}}, "budget": {**conditions, **budget}}
    return JobSpec.model_validate({**made, "method": {"name": "magnitude"}, "train": few, "probe": probe})


def measure(setup: str, models: Path, rows: Path, done: Sequence[Mapping[str, Any]]) -> None:
    """The probe and the ten jobs, as far as `done` lacks them; all share what one worker keeps of a machine."""
    name = SETUPS[setup][0]

    def run(spec: JobSpec, cache: Path) -> tuple[Any, list[dict[str, Any]]]:
        heard: list[dict[str, Any]] = []

        def hear(message: Message) -> None:
            if isinstance(message, LatencyMeasured):
                heard.append(message.latency.to_json())

        with tempfile.TemporaryDirectory() as folder, patch.object(publish, "verify", nothing_seen):
            (Path(folder) / "state").mkdir()
            model = job.ModelRef(models / name, name)
            return job.run(spec, model, {DATASET: rows}, Path(folder), hear, cache), heard

    with tempfile.TemporaryDirectory() as cache:
        found, _ = run(spec_of(setup, {"speedup": 2}, probe=True), Path(cache))
        assert isinstance(found, ProbeReport)
        (plan,) = found.latency
        say(f"{setup}: {plan.lowest_ms:.3g} to {plan.dense_ms:.3g} ms")
        for limit in np.geomspace(1.05 * plan.lowest_ms, 0.9 * plan.dense_ms, JOBS)[len(done) :]:
            line: dict[str, Any] = {"setup": setup, "plan": plan.to_json(), "asked_ms": float(limit)}
            try:
                report, (heard,) = run(spec_of(setup, {"latency_ms": float(limit)}), Path(cache))
                assert isinstance(report, Report)
                line |= {"heard": heard, "budget": report.budget.model_dump()}
                line |= {"environment": report.environment.model_dump()}
                say(f"{setup}: {limit:.3g} ms asked, {report.budget.met:.3g} met")
            except SpecError as error:
                line["refused"] = str(error)
                say(f"{setup}: {limit:.3g} ms asked: {error}")
            append_result(RESULTS, line)


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """A row for each setup."""
    text = [
        "# Milliseconds that can be planned",
        "",
        "`python -m benchmarks.reach` printed this. Plan: what the API shows after a probe. Jobs: ten for each row,",
        "asked for limits from 5 % above the fastest to a tenth below dense. Off: what each job itself read of the",
        "fastest and of the dense model, over the plan: on average and at most. Met: what was kept over the limit;",
        "again: a second reading at the end of the job.",
        "",
        "| model | plan, ms | jobs that met it | fastest, off | dense, off | met (most) | again (most) |",
        "|---|---|---|---|---|---|---|",
    ]
    for setup in SETUPS:
        rows = [line for line in lines if line["setup"] == setup]
        kept = [row for row in rows if "budget" in row]
        if not kept:
            continue
        plan = kept[0]["plan"]
        cells = [setup, f"{plan['lowest_ms']:.3g} to {plan['dense_ms']:.3g}", f"{len(kept)} of {len(rows)}"]
        for field in ("lowest_ms", "dense_ms"):
            off = [abs(row["heard"][field] / row["plan"][field] - 1) for row in kept]
            cells.append(f"{fmean(off):.1%} ({max(off):.1%})")
        for found in (
            [row["budget"]["met"] / row["budget"]["limit"] for row in kept],
            [row["budget"]["measured"]["again"] / row["budget"]["limit"] for row in kept],
        ):
            cells.append(f"{fmean(found):.3f} ({max(found):.3f})")
        text.append(f"| {' | '.join(cells)} |")
    threads = sorted({line["plan"]["threads"] for line in lines})
    device = sorted({line["plan"]["device_name"] for line in lines})
    text += ["", f"On {'; '.join(device)}; threads: {', '.join(map(str, threads))}."]
    return "\n".join(text) + "\n"


def main() -> None:
    """Measure what is left, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="only make the table")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for setup in () if given.table else SETUPS:
        done = [line for line in read_results(RESULTS) if line["setup"] == setup]
        if len(done) == JOBS:
            continue
        if SETUPS[setup][1] is PICTURES:
            fetch_model(given.data_dir, say)
            pair = PAIRS["noto->twemoji"]
            rows = prepare_pictures(given.data_dir / "images", pair, say)[pair.target]
        else:
            rows = prepare_texts(given.data_dir / "tables", ["products"], say)["products"]
        measure(setup, given.data_dir / "models", rows, done)
    page = markdown(read_results(RESULTS))
    print(page)
    RESULTS.with_suffix(".md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
