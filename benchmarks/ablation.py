"""Where a pruned classifier reads its answer: `python -m benchmarks.pooling --seeds 0 1 2 [--targets T ...] [--texts]`.

MiniLM with 100 labelled rows, as a job teaches it today, kept to 10 and 5 % of its encoder: once read from the first
token, once from the mean of all. A line of results/pooling.jsonl is one job; what stands is not run again;
results/pooling.md is made of all.
"""

from __future__ import annotations

import argparse
import sys
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

RESULTS = Path(__file__).parent / "results" / "pooling.jsonl"
ROWS, SIZES = 100, (0.1, 0.05)  # of the encoder
WAYS = ("first", "mean")
METRICS = {"accuracy": "accuracy", "f1": "macro F1"}
INTRO = f"""# Where a pruned classifier reads its answer

`python -m benchmarks.pooling` printed this: all-MiniLM-L6-v2, {ROWS} labelled rows (a quarter of them dev), by the
defaults of a job but for `pooling`; with the target's own unlabelled texts, up to 5,000, and without. At most 1,000
others are test rows. Points, mean over seeds; mean less first: paired, with the 95 % Student's t interval over seeds,
and the worst seed.

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
    return JobSpec.model_validate(
        {
            "model": "all-minilm-l6-v2",
            "task": {"data": parts, **unlabelled},
            "budgets": [{"params": size} for size in SIZES],
            "pooling": way,
            "train": {"seed": cell.seed, "max_length": MAX_LENGTH},
        }
    )


def line_of(cell: Cell, way: str, data_dir: Path) -> dict[str, Any]:
    """One job."""
    tables = prepare(data_dir / "tables", [cell.target], say)
    model, began = data_dir / "models" / "all-minilm-l6-v2", time.process_time()
    with (
        tempfile.TemporaryDirectory(prefix="pooling-") as scratch,
        patch.object(measure, "latencies_ms", no_latency),
        patch.object(publish, "verify", nothing_seen),  # the product's tests show it
    ):
        parts = given(tables[cell.target], ROWS, cell.seed).tables(Path(scratch))
        files = {dataset_id(part): file for part, file in parts.items()}
        found = job.run(spec_of(cell, way), job.ModelRef(model, model.name), files, Path(scratch), heard)
    assert isinstance(found, FamilyReport)
    results = {"dense": found.dense} | {one.name.removeprefix("params-"): one.result for one in found.sizes}
    quality = {name: {m: one.test[m].value for m in METRICS} for name, one in results.items() if one}
    kept = {one.name.removeprefix("params-"): one.structure and one.structure.model_dump() for one in found.sizes}
    line: dict[str, Any] = {"cell": asdict(cell), "way": way, "quality": quality, "kept": kept}
    line |= {"seconds": round(time.process_time() - began, 1), "revision": revision()}
    return line | {"environment": environment().model_dump(mode="json")}


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """A row for each target, size and metric."""
    found = defaultdict[tuple[bool, str], dict[str, dict[int, Any]]](lambda: defaultdict(dict))
    for line in lines:
        cell = Cell(**line["cell"])
        found[cell.texts, cell.target][line["way"]][cell.seed] = line["quality"]
    rows, gains = [], defaultdict[tuple[bool, str, str], list[float]](list)
    for (texts, target), ways in sorted(found.items()):
        seeds = sorted(ways["first"].keys() & ways["mean"].keys())
        for size in ("dense", *map(str, SIZES)) if seeds else ():
            for metric, says in METRICS.items():
                first, mean = ([100 * ways[way][seed][size][metric] for seed in seeds] for way in WAYS)
                gained = [one - other for one, other in zip(mean, first, strict=True)]
                gains[texts, size, metric] += gained
                name = f"{target}, own text" if texts else target
                values = [f"{fmean(first):.1f}", f"{fmean(mean):.1f}", said(gained), f"{min(gained):+.1f}"]
                rows.append([name, size, says, str(len(seeds)), *values])
    for (texts, size, metric), gained in gains.items():
        name = "all, own text" if texts else "all"
        rows.append([name, size, METRICS[metric], str(len(gained)), "", "", said(gained), f"{min(gained):+.1f}"])
    return INTRO + table(["target", "kept", "metric", "jobs", "first", "mean", "mean less first", "worst"], rows)


def said(values: Sequence[float]) -> str:
    """A mean, with its interval."""
    mean, half = interval(values)
    return f"{mean:+.1f}" + (" (one seed)" if half is None else f" ± {half:.1f}")


def say(text: str) -> None:
    """On stderr, at once."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run what is left, then make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--targets", nargs="*", default=[*TARGETS], choices=[*TARGETS])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--texts", action="store_true", help="with the target's own texts, too")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    done = {(Cell(**line["cell"]), line["way"]) for line in read_results(RESULTS)}
    cells = [Cell(target, seed, asked.texts) for seed in asked.seeds for target in asked.targets]
    for cell, way in [(cell, way) for cell in cells for way in WAYS if (cell, way) not in done]:
        line = line_of(cell, way, asked.data_dir)
        say(f"{cell}: {way} {line['quality']}")
        append_result(RESULTS, line)
    RESULTS.with_suffix(".md").write_text(markdown(read_results(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
