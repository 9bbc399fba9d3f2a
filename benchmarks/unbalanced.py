"""Which look at dev is kept where one answer is the commonest? `python -m benchmarks.unbalanced`.

Short ones of the demo's product reviews, drawn so that a given share is positive, teach the dense model. Of each run,
every rule chooses the look that it would keep by the dev rows alone, and the test rows say what it chose: the rules
differ in nothing else. Printed as Markdown, and written to benchmarks/results/unbalanced.md; runs that --runs holds
are not done again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

RESULTS = Path(__file__).parent / "results" / "unbalanced.md"
TRAIN, DEV, TEST = 100, 100, 400
FEW = 20  # of the dev rows, of the same runs: as of 100 rows in all
MOST_CHARACTERS = 80
RATE = 3 * 0.04 / 384  # as what is left of a model recovers with (core.pruning.training.train.recovery_rate)
ID = f"ds_{0:032x}"

Look = Mapping[str, float]  # metrics on dev, its loss, how many answers were given
Run = Mapping[str, Any]


def kept(*names: str) -> Callable[[Look], tuple[float, ...]]:
    """A rule: the look with the most of the first, of equals with the most of the next."""
    return lambda look: tuple(look[name] for name in names)


def mixed(look: Look, weight: int) -> float:
    """Accuracy, of this weight, and balanced accuracy."""
    return round((weight * look["accuracy"] + look["balanced_accuracy"]) / (weight + 1), 9)


RULES: dict[str, Callable[[Look], tuple[float, ...]]] = {
    "accuracy": kept("accuracy", "-loss"),
    "accuracy, of looks that give more than one answer": kept("varied", "accuracy", "-loss"),
    "accuracy, of equals the balanced": kept("accuracy", "balanced_accuracy", "-loss"),
    "accuracy twice, balanced accuracy once": lambda look: (mixed(look, 2), look["-loss"]),
    "mean of accuracy and balanced accuracy": lambda look: (mixed(look, 1), look["-loss"]),
    "balanced accuracy": kept("balanced_accuracy", "-loss"),
    "macro F1": kept("f1", "-loss"),
    "loss": kept("-loss"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unbalanced", description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--shares", nargs="+", type=float, default=[0.71, 0.5])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument(
        "--layers", nargs="+", type=int, default=[1, 2], help="of the model's 6: fewer are weaker, as pruned ones are"
    )
    parser.add_argument("--runs", type=Path, default=Path("data/benchmarks/unbalanced"))
    options = parser.parse_args(arguments)
    os.environ |= {"OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    options.runs.mkdir(parents=True, exist_ok=True)
    runs: dict[tuple[int, float], list[Run]] = defaultdict(list)
    for seed, layers, share in product(options.seeds, options.layers, options.shares):
        file = options.runs / f"{layers}-{share:.2f}-{seed}.json"
        if not file.exists():
            file.write_text(json.dumps(teach(options.data, share, seed, layers)))
        runs[layers, share].append(json.loads(file.read_text()))
    text = markdown(runs)
    RESULTS.write_text(text, encoding="utf-8")
    print(text)
    return 0


def rows(data: Path, share: float, seed: int) -> tuple[list[str], list[str]]:
    """Texts and labels of a target of which `share` is positive."""
    with (data / "demo" / "products.csv").open(encoding="utf-8", newline="") as file:
        every = [row for row in csv.DictReader(file) if len(row["text"]) <= MOST_CHARACTERS]
    random.Random(seed).shuffle(every)
    count = TRAIN + DEV + TEST
    wanted = {"positive": round(share * count), "negative": count - round(share * count)}
    drawn = [row for label, n in wanted.items() for row in [r for r in every if r["label"] == label][:n]]
    return [row["text"] for row in drawn], [row["label"] for row in drawn]


def teach(data: Path, share: float, seed: int, layers: int) -> Run:
    """Teach the dense model: the looks, of all dev rows and of few, and the test rows' metrics at those chosen."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from core.domains.model_ref import ModelRef
    from core.pruning.job.decide import decide
    from core.pruning.job.passes import Pass
    from core.pruning.job.prepare import prepare
    from core.pruning.job.stages import teach as teach_stage
    from core.pruning.system.device import device
    from core.pruning.training import train
    from core.pruning.training.checkpoint import restore, trained
    from core.pruning.training.predict import predict
    from core.spec.job import JobSpec

    spec = JobSpec.model_validate(
        {
            "model": "model",
            "task": {"data": {"dataset": ID}, "split": {"train": TRAIN, "dev": DEV}},
            "budget": {"params": 0.1},
            "train": {"seed": seed, "max_length": 32, "learning_rate": RATE},
        }
    )
    texts, labels = rows(data, share, seed)
    looks: dict[str, list[Look]] = {str(DEV): [], str(FEW): []}
    weights: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.table({"text": texts, "label": labels}), file := Path(folder) / "rows.parquet")
        model = shallow(data / "models" / "all-minilm-l6-v2", layers, Path(folder) / "model")
        job = Pass.begin(spec, ModelRef(model, model.name), {ID: file}, Path(folder), lambda _message: None)
        family, network = prepare(job)
        prepared = family.shared
        dev, test_rows, scores = prepared.inputs.dev, prepared.inputs.test, train.dev_scores
        few = of_each(dev.labels.tolist(), FEW)

        def look(*_: Any) -> dict[str, float]:
            logits = predict(network, dev, fast=True)
            weights.append({name: tensor.clone() for name, tensor in trained(network).items()})
            looks[str(DEV)].append(seen(dev.task, logits, dev.labels))
            looks[str(FEW)].append(seen(dev.task, logits[few], dev.labels[few]))
            return {**looks[str(DEV)][-1], "loss": -looks[str(DEV)][-1]["-loss"]}

        train.dev_scores = look  # type: ignore[assignment]
        with job.teller.stage("teach"):
            taught = teach_stage(prepared, decide(prepared, network), network).teacher
        train.dev_scores = scores
        test = {}
        for number in sorted({choice(of, rule) for of in looks.values() for rule in RULES.values()}):
            restore(taught, weights[number])
            taught.to(device()).eval()
            test[number] = dev.task.quality(predict(taught, test_rows), test_rows.labels)
    return {"looks": looks, "test": test}


def shallow(model: Path, layers: int, target: Path) -> Path:
    """The model with its first layers alone."""
    target.mkdir()
    for file in model.iterdir():
        (target / file.name).symlink_to(file.resolve())
    config = json.loads((model / "config.json").read_text())
    (target / "config.json").unlink()
    (target / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))
    return target


def of_each(labels: Sequence[int], count: int) -> list[int]:
    """Indices of so many rows, of every label in proportion."""
    order = sorted(range(len(labels)), key=lambda i: (labels[i], i))
    return [order[round((i + 0.5) * len(labels) / count - 0.5)] for i in range(count)]


def seen(problem: Any, logits: Any, labels: Any) -> Look:
    """What rules may go by."""
    found: dict[str, float] = problem.quality(logits, labels)
    return found | {
        "-loss": -float(problem.loss(logits, labels)),
        "varied": float(len(logits.argmax(1).unique()) > 1),
    }


def choice(looks: Sequence[Look], rule: Callable[[Look], tuple[float, ...]]) -> int:
    """The look that a rule keeps: the first of equals."""
    return max(range(len(looks)), key=lambda i: rule(looks[i]))


def markdown(runs: Mapping[tuple[int, float], Sequence[Run]]) -> str:
    """A table of every share and number of dev rows."""
    lines = [
        "# Which look at dev is kept where one answer is the commonest",
        "",
        f"The first layers of all-MiniLM-L6-v2, taught on {TRAIN} short product reviews; {TEST} test",
        "rows. The same runs for every rule; in brackets differences to the first, in points, paired by seed, with",
        "their standard error. The product goes by accuracy twice, balanced accuracy once (`rank` in train.py).",
        "",
    ]
    for ((layers, share), done), dev in product(runs.items(), (DEV, FEW)):
        lines += [
            f"## {layers} of 6 layers, {share:.0%} positive, {dev} dev rows, seeds: {len(done)}",
            "",
            "| kept by the most | accuracy | balanced accuracy | macro F1 | of which one answer to all dev rows |",
            "|---|---:|---:|---:|---:|",
        ]
        first: list[Mapping[str, float]] = []
        for name, rule in RULES.items():
            looks = [run["looks"][str(dev)] for run in done]
            chosen = [choice(each, rule) for each in looks]
            test = [run["test"][str(number)] for run, number in zip(done, chosen, strict=True)]
            first = first or test
            cells = [cell([t[m] for t in test], [t[m] for t in first]) for m in ("accuracy", "balanced_accuracy", "f1")]
            alike = sum(not each[number]["varied"] for each, number in zip(looks, chosen, strict=True))
            lines.append(f"| {name} | {' | '.join(cells)} | {alike} |")
        lines.append("")
    return "\n".join(lines)


def cell(values: Sequence[float], before: Sequence[float]) -> str:
    """The mean, and by how much it leads."""
    gains = [100 * (value - old) for value, old in zip(values, before, strict=True)]
    error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    return f"{mean(values):.1%}" + (f" ({mean(gains):+.1f} ± {error:.1f})" if any(gains) else "")


if __name__ == "__main__":
    raise SystemExit(main())
