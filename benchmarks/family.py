"""Several sizes in one job, against a job for each: `python -m benchmarks.family [--data-dir DIR] [--seeds 0 1 2]`.

MiniLM with 100 labelled rows and coupling `teacher`, kept to 40, 20, 10 and 5 % of its encoder. Each line of
results/family.jsonl is a pair of tasks and a seed: the quality of each size of the one job and of the job of that size
alone, on the same test rows, and what both took. The jobs alone go on from the taught model of the first, whose time
counts as theirs. A line that is there is not run again; results/family.md is made of all.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.transfer.cells import append_result, dataset_id, read_results, revision
from benchmarks.transfer.data import MAX_LENGTH, PAIRS, prepare
from benchmarks.transfer.table import interval
from core.pruning.export.files import environment
from core.pruning.job import publish
from core.pruning.job import run as job
from core.spec.job import JobSpec
from core.spec.messages import Message, StageBegun
from core.spec.report import FamilyReport, Report

RESULTS = Path(__file__).parent / "results" / "family.jsonl"
SIZES = (0.4, 0.2, 0.1, 0.05)  # of the encoder
TASKS = ("movies->products", "movies->yelp", "mail->sms")
TAUGHT = ("teach.safetensors", "teach.json")


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
            "train": {"max_length": MAX_LENGTH, "seed": seed},
            **({"budgets": budgets} if budgets[1:] else {"budget": budgets[0]}),
        }
    )


def line_of(pair: str, seed: int, data_dir: Path) -> dict[str, Any]:
    """The one job, and those alone."""
    model = data_dir / "models" / "all-minilm-l6-v2"
    asked = PAIRS[pair]
    tables = prepare(data_dir / "tables", [asked.target, asked.source], say)
    files = {dataset_id(name): tables[name] for name in (asked.target, asked.source)}

    def run(sizes: Sequence[float], folder: Path) -> tuple[Report | FamilyReport, dict[str, float]]:
        """What was found, and seconds of the processor by stage."""
        spec, spent = spec_of(pair, seed, sizes), defaultdict[str, float](float)
        stage, since = "", time.process_time()

        def heard(message: Message | None) -> None:
            nonlocal stage, since
            if message is None or isinstance(message, StageBegun):
                spent[stage] += time.process_time() - since
                stage, since = message.stage if message else "", time.process_time()

        # That a checkpoint loads in a fresh process the product's tests show.
        with patch.object(publish, "verify", lambda *_given: None):
            found = job.run(spec, job.ModelRef(model, model.name), files, folder, heard)
        assert found is not None
        heard(None)
        say(f"{pair}, seed {seed}, {sizes}: {sum(spent.values()):.0f} s of the processor")
        return found, dict(spent)

    with tempfile.TemporaryDirectory(prefix="family-") as scratch:
        together = Path(scratch) / "together"
        family, spent = run(SIZES, together)
        assert isinstance(family, FamilyReport)
        sizes: dict[str, dict[str, Any]] = {}
        for size in SIZES:
            state = Path(scratch) / str(size) / "state"
            state.mkdir(parents=True)
            for name in TAUGHT:
                shutil.copy(together / "state" / name, state / name)
            alone, own = run([size], state.parent)
            assert isinstance(alone, Report)
            [made] = (one for one in family.sizes if one.name == f"params-{size:g}")
            assert made.result is not None and made.change is not None and made.on_dev is not None
            sizes[f"{size:g}"] = {
                "family": made.result.test[asked.metric].value,
                "alone": alone.results.pruned.test[asked.metric].value,
                "change": made.change.model_dump(),
                "on_dev": made.on_dev.model_dump(),
                "seconds_alone": round(sum((own | {"teach": spent["teach"]}).values()), 1),
            }
    return {
        "pair": pair,
        "seed": seed,
        "metric": asked.metric,
        "dense": family.dense.test[asked.metric].value,
        "sizes": sizes,
        "seconds": round(sum(spent.values()), 1),
        "stages": {name: round(seconds, 1) for name, seconds in spent.items()},
        "ratio": sum(spent.values()) / max(one["seconds_alone"] for one in sizes.values()),
        "recommended": family.recommended,
        "knee": family.knee,
        "revision": revision(),
        "environment": environment().model_dump(mode="json"),
    }


INTRO = """# Several sizes in one job, against a job for each

`python -m benchmarks.family` printed this: points of the metric on the test rows, mean over seeds; less alone: the
size of the one job less the job of that size alone, paired, with the 95 % Student's t interval over seeds. Cost: the
one job's seconds of the processor over those of the dearest job alone, whose teaching is counted. Recommended: the
sizes that dev rows chose, and what they lose on the test rows.
"""


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """The page."""
    page = [INTRO, "| pair, kept | seeds | dense | family | alone | less alone |", "|" + " --- |" * 6]
    for pair in dict.fromkeys(line["pair"] for line in lines):
        runs = [line for line in lines if line["pair"] == pair]
        for size in runs[0]["sizes"]:
            found = [run["sizes"][size] for run in runs]
            family, alone = ([100 * one[name] for one in found] for name in ("family", "alone"))
            mean, half = interval([one - other for one, other in zip(family, alone, strict=True)])
            cells = [f"{pair}, {float(size):.0%}", str(len(runs)), f"{100 * fmean(run['dense'] for run in runs):.1f}"]
            cells += [f"{fmean(family):.1f}", f"{fmean(alone):.1f}"]
            cells += [f"{mean:+.1f}" + (f" ± {half:.1f}" if half is not None else "")]
            page.append(f"| {' | '.join(cells)} |")
    page += ["", "| pair, seed | cost | recommended | on test, less dense | knee |", "|" + " --- |" * 5]
    for line in lines:
        name = line["recommended"]
        size = line["sizes"].get((name or "").removeprefix("params-"))
        cells = [f"{line['pair']}, {line['seed']}", f"{line['ratio']:.2f}", name or "none"]
        cells += [f"{100 * size['change']['value']:+.1f}" if size else "", line["knee"] or ""]
        page.append(f"| {' | '.join(cells)} |")
    return "\n".join(page) + "\n"


def say(text: str) -> None:
    """On stderr, at once."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run what is left, seed by seed, and make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--pairs", nargs="*", default=[*TASKS], choices=[*TASKS])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    done = {(line["pair"], line["seed"]) for line in read_results(RESULTS)}
    for seed in asked.seeds:
        for pair in asked.pairs:
            if (pair, seed) not in done:
                append_result(RESULTS, line_of(pair, seed, asked.data_dir))
    RESULTS.with_suffix(".md").write_text(table(read_results(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
