"""Several sizes in one job, against a job for each: `python -m benchmarks.family [--data-dir DIR] [--seeds 0 1 2]`.

MiniLM with 100 labelled rows and coupling `teacher`, kept to 40, 20, 10 and 5 % of its encoder. Each line of
results/family.jsonl is a job: of all sizes, or of one. The jobs of one go on from the taught model of the first, whose
time counts as theirs. A line that is there is not run again; results/family.md is made of all.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.say import say
from benchmarks.transfer.cells import append_result, dataset_id, read_results, revision
from benchmarks.transfer.data import MAX_LENGTH, PAIRS, prepare
from benchmarks.transfer.table import interval
from benchmarks.unverified import nothing_seen
from core.pruning.export.files import environment
from core.pruning.job import publish
from core.pruning.job import run as job
from core.spec.job import JobSpec
from core.spec.messages import Message, StageBegun
from core.spec.report import FamilyReport, Report

RESULTS = Path(__file__).parent / "results" / "family.jsonl"
SIZES = (0.4, 0.2, 0.1, 0.05)  # of the encoder
TASKS = ("movies->products", "movies->yelp", "mail->sms")
JOBS = (SIZES, *((size,) for size in SIZES))


def spec_of(pair: str, seed: int, sizes: Sequence[float]) -> JobSpec:
    """A job, as a user would post it."""
    asked = PAIRS[pair]
    budgets = [{"params": size} for size in sizes]
    return JobSpec.model_validate(
        {
            "model": "all-minilm-l6-v2",
            "task": {
                "data": {"dataset": dataset_id(asked.target)},
                "split": {"train": 100, "dev": 100} | ({"test": asked.test} if asked.test else {}),
                "metric": asked.metric,
            },
            "sources": [{"data": {"dataset": dataset_id(asked.source)}, "label": "label"}],
            "transfer": {"coupling": "teacher"},
            "pooling": "first",  # as in every line that stands
            "train": {"max_length": MAX_LENGTH, "seed": seed, "contrastive": False},
            **({"budgets": budgets} if budgets[1:] else {"budget": budgets[0]}),
        }
    )


def line_of(pair: str, seed: int, sizes: Sequence[float], data_dir: Path) -> dict[str, Any]:
    """One job. What is taught lies beside the data, for the others of that pair and seed."""
    model, asked, spent = data_dir / "models" / "all-minilm-l6-v2", PAIRS[pair], defaultdict[str, float](float)
    tables = prepare(data_dir / "tables", [asked.target, asked.source], say)
    files = {dataset_id(name): tables[name] for name in (asked.target, asked.source)}
    stage, since = "", time.process_time()

    def heard(message: Message | None) -> None:
        nonlocal stage, since
        if message is None or isinstance(message, StageBegun):
            spent[stage] += time.process_time() - since
            stage, since = message.stage if message else "", time.process_time()

    taught = data_dir / "taught" / f"{asked.target}-{seed}-{revision()}"
    with tempfile.TemporaryDirectory(prefix="family-") as scratch:
        state = Path(scratch) / "state"
        state.mkdir()
        for file in taught.glob("teach.*"):
            shutil.copy(file, state)
        # That a checkpoint loads in a fresh process the product's tests show.
        with patch.object(publish, "verify", nothing_seen):
            spec = spec_of(pair, seed, sizes)
            found = job.run(spec, job.ModelRef(model, model.name), files, Path(scratch), heard)
        taught.mkdir(parents=True, exist_ok=True)
        for file in state.glob("teach.[js]*"):
            shutil.copy(file, taught)
    assert found is not None
    heard(None)
    line: dict[str, Any] = {"pair": pair, "seed": seed, "sizes": list(sizes), "metric": asked.metric}
    line |= {"seconds": {name: round(seconds, 1) for name, seconds in spent.items()}}
    line |= {"revision": revision(), "environment": environment().model_dump(mode="json")}
    if isinstance(found, Report):
        return line | {"quality": [found.results.pruned.test[asked.metric].value]}
    assert isinstance(found, FamilyReport)
    made = {one.name: one for one in found.sizes}
    each = [made[f"params-{size:g}"] for size in sizes]
    line |= {"dense": found.dense.test[asked.metric].value, "recommended": found.recommended, "knee": found.knee}
    line["change"] = [one.change and one.change.model_dump() for one in each]
    return line | {"quality": [one.result and one.result.test[asked.metric].value for one in each]}


INTRO = """# Several sizes in one job, against a job for each

`python -m benchmarks.family` printed this: points of the metric on the test rows, mean over seeds; less alone: the
size of the one job less the job of that size alone, paired, with the 95 % Student's t interval over seeds. Cost: the
one job's seconds of the processor over those of the dearest job alone, whose teaching is counted. Recommended: the
sizes that dev rows chose, and what they lose on the test rows.
"""


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """The page, of the pairs and seeds whose jobs have all been run."""
    jobs = {(line["pair"], line["seed"], tuple(line["sizes"])): line for line in lines}
    whole = [
        (pair, seed) for pair, seed, sizes in jobs if sizes == SIZES and all((pair, seed, (s,)) in jobs for s in SIZES)
    ]
    page = [INTRO, "| pair, kept | seeds | dense | family | alone | less alone |", "|" + " --- |" * 6]
    for pair in dict.fromkeys(pair for pair, _ in whole):
        seeds = [seed for one, seed in whole if one == pair]
        families = [jobs[pair, seed, SIZES] for seed in seeds]
        dense = fmean(100 * one["dense"] for one in families)
        for i, size in enumerate(SIZES):
            family = [100 * one["quality"][i] for one in families]
            alone = [100 * jobs[pair, seed, (size,)]["quality"][0] for seed in seeds]
            mean, half = interval([one - other for one, other in zip(family, alone, strict=True)])
            less = f"{mean:+.1f}" + (f" ± {half:.1f}" if half is not None else "")
            cells = [
                f"{pair}, {size:.0%}",
                str(len(seeds)),
                f"{dense:.1f}",
                f"{fmean(family):.1f}",
                f"{fmean(alone):.1f}",
            ]
            page.append(f"| {' | '.join([*cells, less])} |")
    page += ["", "| pair, seed | cost | recommended | on test, less dense | knee |", "|" + " --- |" * 5]
    for pair, seed in whole:
        several = jobs[pair, seed, SIZES]
        teach = several["seconds"]["teach"]
        each = [sum((jobs[pair, seed, (size,)]["seconds"] | {"teach": teach}).values()) for size in SIZES]
        cost, name = sum(several["seconds"].values()) / max(each), several["recommended"]
        changes = {f"params-{size:g}": one["value"] for size, one in zip(SIZES, several["change"], strict=True)}
        cells = [f"{pair}, {seed}", f"{cost:.2f}", name or "none", f"{100 * changes.get(name, 0.0):+.1f}"]
        page.append(f"| {' | '.join([*cells, several['knee'] or ''])} |")
    return "\n".join(page) + "\n"


def main() -> None:
    """Run what is left, seed by seed, and make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--pairs", nargs="*", default=[*TASKS], choices=[*TASKS])
    parser.add_argument("--table", action="store_true", help="only make the table")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    done = {(line["pair"], line["seed"], tuple(line["sizes"])) for line in read_results(RESULTS)}
    every = [(pair, seed, sizes) for seed in asked.seeds for pair in asked.pairs for sizes in JOBS]
    for pair, seed, sizes in [] if asked.table else every:
        if (pair, seed, sizes) not in done:
            line = line_of(pair, seed, sizes, asked.data_dir)
            append_result(RESULTS, line)
            say(f"{pair}, seed {seed}, {sizes}: {line['quality']}, {sum(line['seconds'].values()):.0f} s")
    RESULTS.with_suffix(".md").write_text(table(read_results(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
