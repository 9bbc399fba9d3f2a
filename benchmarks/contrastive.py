"""Teaching by pairs first, against labels alone: `python -m benchmarks.contrastive [--targets T ...] [--seeds 0 1 2]`.

The dense model alone is taught, as a job teaches it, and asked the test rows. A line of results/contrastive.jsonl is
one way to teach one cell; what stands is not run again; results/contrastive.md is made of all.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.data import TARGETS, given
from benchmarks.say import say
from benchmarks.similarity.table import table
from benchmarks.transfer.cells import append_result, dataset_id, read_results, revision
from benchmarks.transfer.data import MAX_LENGTH, prepare
from benchmarks.transfer.table import interval
from core.domains.network import Network
from core.pruning.export.files import environment
from core.pruning.reading.inputs import Inputs
from core.pruning.reading.read import read_inputs
from core.pruning.training.contrast import by_pairs, fit_head
from core.pruning.training.coupling import add_heads, phases
from core.pruning.training.predict import predict
from core.pruning.training.train import Training, train
from core.schedule import training_steps
from core.spec.job import JobSpec

RESULTS = Path(__file__).parent / "results" / "contrastive.jsonl"
WAYS = ("labels", "pairs", "regression")  # the last: a head on the model as it is
SOURCES = {"yelp": "movies", "products": "movies", "sms": "mail"}  # with labels, taught before the target
METRICS = {"accuracy": "accuracy", "f1": "macro F1"}
INTRO = """# Teaching by pairs first, against labels alone

`python -m benchmarks.contrastive` printed this: all-MiniLM-L6-v2, dense, its answer read from the mean of the tokens,
taught for as many steps by labels alone, or by pairs first; and, untaught, behind a head that is fitted to the same
rows. A quarter of the labelled rows is dev, at most 1,000 others are test rows. Points, mean over seeds; less labels:
paired, with the 95 % Student's t interval over seeds.

"""


@dataclass(frozen=True)
class Cell:
    """A target's labelled rows, drawn and trained by `seed`; `source`: a table with labels, or none."""

    target: str
    rows: int
    seed: int
    source: str = ""


def spec_of(cell: Cell) -> JobSpec:
    """The job whose teaching it is."""
    borrowed = {
        "sources": [{"data": {"dataset": dataset_id(cell.source)}, "label": "label"}],
        "transfer": {"coupling": "teacher"},
    }
    return JobSpec.model_validate(
        {
            "model": "all-minilm-l6-v2",
            "task": {"data": {part: {"dataset": dataset_id(part)} for part in ("train", "dev", "test")}},
            "budget": {"params": 0.1},
            "train": {"seed": cell.seed, "max_length": MAX_LENGTH},
            **(borrowed if cell.source else {}),
        }
    )


def taught(way: str, spec: JobSpec, inputs: Inputs, network: Network) -> None:
    """Teach the network in place."""
    plan = phases(str(spec.coupling), "teach", True, inputs.target, inputs.sources, spec.train.batch_size)
    if way == "regression":
        return fit_head(network, plan[-1].streams[0])
    add_heads(network, plan, inputs.sources)
    steps = training_steps(spec, len(inputs.splits.train), 1.0)["teach"]
    how = Training(steps, network.rate, spec.train.seed)
    train(network, by_pairs(plan) if way == "pairs" else plan, inputs.dev, how, stage="teach", metric=spec.task.metric)
    return None


def lines_of(cell: Cell, ways: Sequence[str], data_dir: Path) -> Iterator[dict[str, Any]]:
    """Each way, from the same start."""
    tables = prepare(data_dir / "tables", [cell.target, *([cell.source] if cell.source else [])], say)
    spec, model = spec_of(cell), data_dir / "models" / "all-minilm-l6-v2"
    with tempfile.TemporaryDirectory(prefix="contrastive-") as scratch:
        parts = given(tables[cell.target], cell.rows, cell.seed).tables(Path(scratch))
        files = {dataset_id(part): file for part, file in parts.items()}
        files |= {dataset_id(cell.source): tables[cell.source]} if cell.source else {}
        inputs, start = read_inputs(spec, model, files)
    for way in ways:
        network, began = copy.deepcopy(start), time.process_time()
        taught(way, spec, inputs, network)
        seconds, test = time.process_time() - began, inputs.test
        quality = test.task.quality(predict(network, test), test.labels)
        line = {"cell": asdict(cell), "way": way, "quality": {name: quality[name] for name in METRICS}}
        yield line | {
            "seconds": round(seconds, 1),
            "revision": revision(),
            "environment": environment().model_dump(mode="json"),
        }


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """A row for each target, source and number of rows."""
    found = defaultdict[tuple[Any, ...], dict[str, dict[int, Mapping[str, float]]]](lambda: defaultdict(dict))
    for line in lines:
        cell = Cell(**line["cell"])
        found[bool(cell.source), cell.rows, cell.target, cell.source][line["way"]][cell.seed] = line["quality"]
    rows = []
    for (_, count, target, source), ways in sorted(found.items()):
        name = f"{target} after {source}" if source else target
        for metric, says in METRICS.items():
            means = [said(ways.get(way, {}), metric) for way in WAYS]
            both = sorted(ways.get("labels", {}).keys() & ways.get("pairs", {}).keys())
            gains = [100 * (ways["pairs"][seed][metric] - ways["labels"][seed][metric]) for seed in both]
            rows.append([name, f"{count:,}", says, str(len(both)), *means, gained(gains)])
    return INTRO + table(["target", "rows", "metric", "seeds", *WAYS, "pairs less labels"], rows)


def said(by_seed: Mapping[int, Mapping[str, float]], metric: str) -> str:
    """Points, mean over seeds."""
    return f"{100 * sum(one[metric] for one in by_seed.values()) / len(by_seed):.1f}" if by_seed else ""


def gained(values: Sequence[float]) -> str:
    """With its interval."""
    if not values:
        return ""
    mean, half = interval(values)
    return f"{mean:+.1f}" + (" (one seed)" if half is None else f" ± {half:.1f}")


def main() -> None:
    """Run what is left, then make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--targets", nargs="*", default=[*TARGETS], choices=[*TARGETS])
    parser.add_argument("--rows", nargs="*", type=int, default=[100, 1000])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--sources", action="store_true", help="of targets that have one, with a source's labels first")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    done = {(Cell(**line["cell"]), line["way"]) for line in read_results(RESULTS)}
    for seed in asked.seeds:
        for rows in asked.rows:
            for target in asked.targets:
                cell = Cell(target, rows, seed, SOURCES.get(target, "") if asked.sources else "")
                left = [way for way in WAYS if (cell, way) not in done and not (cell.source and way == "regression")]
                if left and rows in TARGETS[target].rows and bool(cell.source) == asked.sources:
                    for line in lines_of(cell, left, asked.data_dir):
                        say(f"{cell}: {line['way']} {line['quality']}")
                        append_result(RESULTS, line)
    RESULTS.with_suffix(".md").write_text(markdown(read_results(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
