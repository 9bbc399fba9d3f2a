"""How far the estimates of POST /v1/jobs:validate are off, on small jobs of a real model; and the pace it starts from.

    python -m benchmarks.estimate

Each job is a process of its own on one thread. Time is that of the processor, so that a busy machine counts less.
Writes benchmarks/results/estimate.{json,md}; needs `topwork fetch-demo`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from core.spec.job import JobSpec
from core.spec.report import Report

RESULTS = Path(__file__).parent / "results"
MODEL = Path("data/models/all-minilm-l6-v2")
DATASET = "ds_" + 32 * "0"
WORDS = ("the", "film", "was", "good", "bad", "long", "quiet", "a", "story", "of", "people", "who", "meet", "again")
JOBS = {"short texts, batch 16": (12, 16, 64), "long texts, batch 32": (90, 32, 128)}  # words, batch, tokens
STEPS = {"teach": 6, "recover": 12}


def rows(words: int) -> pa.Table:
    """Distinct texts of so many words."""
    texts = [
        f"{i} " + " ".join(WORDS[(i * 7 + j * (1 + i % 5)) % len(WORDS)] for j in range(words)) for i in range(260)
    ]
    return pa.table({"text": texts, "label": ["good" if i % 2 else "bad" for i in range(260)]})


def one(words: int, batch_size: int, max_length: int) -> dict[str, Any]:
    """A whole job, and what was foretold of it."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    from api.planning.catalogue import find
    from api.planning.plan import foretell
    from core.pruning.job.run import ModelRef, run
    from core.rows.survey import survey

    torch.set_num_threads(1)
    spec = JobSpec.model_validate(
        {
            "model": MODEL.name,
            "task": {"data": {"dataset": DATASET}, "split": {"train": 200, "dev": 50}},
            "budget": {"params": 0.2},
            "method": {"name": "magnitude"},  # so that nothing but training takes time
            "train": {"steps": STEPS, "batch_size": batch_size, "max_length": max_length},
        }
    )
    model = find(MODEL.parent, MODEL.name)
    table = rows(words)
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, Path(folder) / "rows.parquet")
        files = {DATASET: Path(folder) / "rows.parquet"}
        found = survey(spec, files, min(max_length, model.reads or max_length))
        said = foretell(spec, found, model, [], "cpu", 1)
        started, busy = time.perf_counter(), time.process_time()
        ref = ModelRef(MODEL.resolve(), MODEL.name)
        report = run(spec, ref, files, Path(folder), lambda _message: None)
        wall, cpu = time.perf_counter() - started, time.process_time() - busy
    assert isinstance(report, Report) and report.work_macs and report.peak_memory_bytes
    train_s = sum(report.timings_s[stage] for stage in ("teach", "prune", "recover")) * cpu / wall
    return {
        "said_s": [said.seconds.low, said.seconds.high] if said.seconds else None,
        "cpu_s": cpu,
        "seconds_per_mac": train_s / report.work_macs.train,
        "said_bytes": said.memory_bytes,
        "peak_bytes": report.peak_memory_bytes.process,
    }


def main() -> None:
    """Run the jobs, one after the other."""
    found: dict[str, Any] = {}
    for name, job in JOBS.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[name] = pool.apply(one, job)
        write(found)


def write(found: dict[str, Any]) -> None:
    """JSON, and the same as Markdown."""
    lines = [
        "# Estimates of POST /v1/jobs:validate against small jobs",
        "",
        f"`python -m benchmarks.estimate`: {MODEL.name}, one thread, steps {STEPS}. Without finished jobs to go by.",
        "",
        "| job | said s | took CPU s | s per 10^12 MACs of training | said MB | peak MB | said / peak |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in found.items():
        low, high = row["said_s"]
        lines.append(
            f"| {name} | {low:.0f} to {high:.0f} | {row['cpu_s']:.0f} | {row['seconds_per_mac'] * 1e12:.1f} "
            f"| {row['said_bytes'] / 1e6:,.0f} | {row['peak_bytes'] / 1e6:,.0f} "
            f"| {row['said_bytes'] / row['peak_bytes']:.2f} |"
        )
    text = "\n".join(lines) + "\n"
    (RESULTS / "estimate.json").write_text(json.dumps(found, indent=2) + "\n")
    (RESULTS / "estimate.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
