"""Defaults of a job, each by itself changed: `python -m benchmarks.ablation [--targets T ..] [--ways W ..] [--texts]`.

MiniLM with 100 labelled rows, as a job teaches, prunes and recovers it today, kept to 10 and 5 % of its encoder. A line
of results/ablation.jsonl is one job; what stands is not run again; results/ablation.md is made of all.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.peers.data import TARGETS, given
from benchmarks.peers.ours import heard, no_latency
from benchmarks.say import say
from benchmarks.similarity.table import table
from benchmarks.transfer.cells import append_result, dataset_id, read_results, revision
from benchmarks.transfer.data import MAX_LENGTH, prepare
from benchmarks.transfer.table import interval
from benchmarks.unverified import nothing_seen
from core.pruning.export.files import environment
from core.pruning.job import measure, publish
from core.pruning.job import run as job
from core.spec.job import JobSpec
from core.spec.report import FamilyReport

RESULTS = Path(__file__).parent / "results" / "ablation.jsonl"
ROWS, SIZES = 100, (0.1, 0.05)  # of the encoder
DEFAULT = "default"


# What a job asks for beside what it must.
WAYS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "first token": {"pooling": "first"},
    "labels alone": {"train": {"contrastive": False}},
    "twice the recovery": {"train": {"steps": {"recover": 1800}}},
}
METRICS = {"accuracy": "accuracy", "f1": "macro F1"}
INTRO = f"""# Defaults of a job, each by itself changed

`python -m benchmarks.ablation` printed this: all-MiniLM-L6-v2, {ROWS} labelled rows (a quarter of them dev); with the
target's own unlabelled texts, up to 5,000, and without. At most 1,000 others are test rows. Points of the default, mean
over seeds; then what each way is above it: paired, with the 95 % Student's t interval, over the seeds that both have;
in the last rows over all jobs.

"""


@dataclass(frozen=True)
class Cell:
    """A target's labelled rows, drawn and trained by `seed`, with the target's own texts beside them or without."""

    target: str
    seed: int
    texts: bool = False


def spec_of(cell: Cell, way: str) -> JobSpec:
    """The job, as a user would post it."""
    parts: dict[str, Any] = {part: {"dataset": dataset_id(part)} for part in ("train", "dev", "test")}
    unlabelled = {"unlabelled": {"data": {"dataset": dataset_id("texts")}}} if cell.texts else {}
    spec: dict[str, Any] = {
        "model": "all-minilm-l6-v2",
        "task": {"data": parts, **unlabelled},
        "budgets": [{"params": size} for size in SIZES],
        "train": {"seed": cell.seed, "max_length": MAX_LENGTH},
    }
    asked = WAYS[way]
    return JobSpec.model_validate({**spec, **asked, "train": {**spec["train"], **asked.get("train", {})}})


def line_of(cell: Cell, way: str, data_dir: Path) -> dict[str, Any]:
    """One job."""
    tables = prepare(data_dir / "tables", [cell.target], say)
    model, began = data_dir / "models" / "all-minilm-l6-v2", time.process_time()
    with (
        tempfile.TemporaryDirectory(prefix="ablation-") as scratch,
        patch.object(measure, "latencies_ms", no_latency),
        patch.object(publish, "verify", nothing_seen),  # the product's tests show it
    ):
        parts = given(tables[cell.target], ROWS, cell.seed).tables(Path(scratch))
        files = {dataset_id(part): file for part, file in parts.items()}
        found = job.run(spec_of(cell, way), job.ModelRef(model, model.name), files, Path(scratch), heard)
    assert isinstance(found, FamilyReport)
    results = {"dense": found.dense} | {one.name.removeprefix("params-"): one.result for one in found.sizes}
    quality = {name: {m: one.test[m].value for m in METRICS} for name, one in results.items() if one}
    line: dict[str, Any] = {"cell": asdict(cell), "way": way, "quality": quality}
    line |= {"seconds": round(time.process_time() - began, 1), "revision": revision()}
    return line | {"environment": environment().model_dump(mode="json")}


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """A row for each target, size and metric."""
    found = defaultdict[tuple[bool, str], dict[str, dict[int, Any]]](lambda: defaultdict(dict))
    for line in lines:
        cell = Cell(**line["cell"])
        found[cell.texts, cell.target][line["way"]][cell.seed] = line["quality"]
    others = [way for way in WAYS if any(way in ways for ways in found.values()) and way != DEFAULT]
    rows, every = [], defaultdict[tuple[bool, str, str], dict[str, list[float]]](lambda: defaultdict(list))
    for (texts, target), ways in sorted(found.items()):
        for size in ("dense", *map(str, SIZES)):
            for metric, says in METRICS.items():
                usual = {seed: 100 * quality[size][metric] for seed, quality in ways[DEFAULT].items()}
                cells = [f"{fmean(usual.values()):.1f} ({len(usual)})"] if usual else [""]
                for way in others:
                    seeds = sorted(usual.keys() & ways.get(way, {}).keys())
                    above = [100 * ways[way][seed][size][metric] - usual[seed] for seed in seeds]
                    every[texts, size, says][way] += above
                    cells.append(said(above))
                rows.append([f"{target}, own text" if texts else target, size, says, *cells])
    for (texts, size, says), by_way in every.items():
        rows.append(["all, own text" if texts else "all", size, says, "", *(said(by_way[way]) for way in others)])
    return INTRO + table(["target", "kept", "metric", "default (seeds)", *others], rows)


def said(values: Sequence[float]) -> str:
    """A mean, with its interval."""
    if not values:
        return ""
    mean, half = interval(values)
    return f"{mean:+.1f}" + (" (one)" if half is None else f" ± {half:.1f} ({len(values)})")


def main() -> None:
    """Run what is left, then make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--targets", nargs="*", default=[*TARGETS], choices=[*TARGETS])
    parser.add_argument("--ways", nargs="*", default=[*WAYS], choices=[*WAYS])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--texts", action="store_true", help="with the target's own texts, too")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    done = {(Cell(**line["cell"]), line["way"]) for line in read_results(RESULTS)}
    cells = [Cell(target, seed, asked.texts) for seed in asked.seeds for target in asked.targets]
    for cell, way in [(cell, way) for cell in cells for way in asked.ways if (cell, way) not in done]:
        line = line_of(cell, way, asked.data_dir)
        say(f"{cell}: {way} {line['quality']}")
        append_result(RESULTS, line)
    RESULTS.with_suffix(".md").write_text(markdown(read_results(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
