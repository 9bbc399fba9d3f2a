"""How near to its limit `fit` comes: 30 random fits for each cost and family, on the shapes of published models.

    python -m benchmarks.budget
    python -m benchmarks.budget latency [--model FOLDER] [--runtimes RUNTIME ...] [--batch N] [--threads N]

Scores, limits (2 % to 100 % of the dense encoder's cost) and the balance between heads and neurons are random. Prints
and writes results/budget.md.

`latency` fits random scores of a real model to speed-ups of 2, 4 and 8 (an image classifier's, at 64 pixels: 1.5, 2 and
3), ten each, as jobs of one worker do (they share a table of prices), and measures what was kept once more: two
readings of one structure say how large the noise is. Each fit is appended to results/budget_latency.jsonl, and not made
again by the next run; results/budget_latency.md is made of it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoConfig

from benchmarks.transfer.cells import append_result, read_results
from core.domains.channels.families import FAMILIES as IMAGE_FAMILIES
from core.domains.channels.load import load_images
from core.domains.config import read_config
from core.domains.fit import Scores, fit
from core.domains.network import Network
from core.domains.transformer.costs import Costs
from core.domains.transformer.families import FAMILIES, Architecture
from core.domains.transformer.fit_hidden import fit_narrow
from core.domains.transformer.load import load_network
from core.pruning.export.files import environment
from core.pruning.latency.budget import LatencyBudget
from core.pruning.latency.macs import ByMacs
from core.pruning.latency.prices import ByUnits, Pricing
from core.pruning.latency.runtimes import conditions
from core.pruning.latency.stopwatch import Stopwatch
from core.pruning.reading.tokenizer import load_tokenizer
from core.rows.image.processor import Images
from core.rows.modality import Blank
from core.rows.text.processor import Text
from core.spec.budget import Budget
from core.spec.errors import SpecError

FITS = 30
LENGTH, SIDE = 128, 64  # tokens; pixels
RESULTS = Path(__file__).parent / "results"
SPEEDUPS, SPEEDUPS_OF_IMAGES = (2.0, 4.0, 8.0), (1.5, 2.0, 3.0)
MULTIPLE = 16  # channels
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# config.json of a published model, as far as its class's defaults do not say it: (hidden, heads, layers, FFN neurons),
# and what else units depend on.
RELATIVE = {"relative_attention": True, "pos_att_type": "p2c|c2p", "position_buckets": 256, "share_att_key": True}
SHAPES: Mapping[str, tuple[Any, ...]] = {
    "all-MiniLM-L6-v2": ("bert", (384, 12, 6, 1536)),
    "BERT base": ("bert", (768, 12, 12, 3072)),
    "RoBERTa base": ("roberta", (768, 12, 12, 3072)),
    "DistilBERT base": ("distilbert", (768, 12, 6, 3072)),
    "ELECTRA small": ("electra", (256, 4, 12, 1024)),
    "MPNet base": ("mpnet", (768, 12, 12, 3072)),
    "ModernBERT base": ("modernbert", (768, 12, 22, 1152)),
    "DeBERTa-v3 base": ("deberta-v2", (768, 12, 12, 3072), RELATIVE | {"position_biased_input": False}),
    "Llama 3.2 1B": ("llama", (2048, 32, 16, 8192), {"num_key_value_heads": 8, "vocab_size": 128256}),
    "Qwen2.5 0.5B": ("qwen2", (896, 14, 24, 4864), {"num_key_value_heads": 2}),
    "Qwen3 0.6B": ("qwen3", (1024, 16, 28, 3072), {"num_key_value_heads": 8, "head_dim": 128}),
}
NARROW = ("all-MiniLM-L6-v2", "BERT base")  # fitted with fewer hidden dimensions, too


def costs_of(family: str, sizes: tuple[int, int, int, int], options: Mapping[str, Any] = MappingProxyType({})) -> Costs:
    """Of a model of these sizes; nothing is allocated."""
    values = dict(zip(FAMILIES[family].sizes, sizes, strict=True))
    config = AutoConfig.for_model(family, **values, **options, num_labels=2)
    with torch.device("meta"):
        model = getattr(transformers, FAMILIES[family].task_class)(config)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    return Costs.from_shapes(Architecture.from_config(config.to_dict()), shapes, LENGTH)


def slacks(costs: Costs, kind: str) -> list[float]:
    """Part of the limit that each fit leaves; negative would be over it."""
    cost, rng = getattr(costs, kind), np.random.default_rng(0)
    a, found = costs.architecture, []
    for _ in range(FITS):
        heads = rng.normal(size=a.layers * a.heads) + rng.uniform(-3, 3)
        limit = int(rng.uniform(0.02, 1) * cost.dense)
        met = cost.of(fit(Scores(np.append(heads, rng.normal(size=a.layers * a.neurons))), cost, limit))
        found.append(1 - met / limit)
    return found


def narrow_slacks(costs: Costs, kind: str) -> list[float]:
    """As `slacks`, of the whole model's limit, where hidden dimensions may go, too: from the least to all of it."""
    cost, small = getattr(costs, kind), getattr(costs.smallest("trim"), kind)
    a, rng, found = costs.architecture, np.random.default_rng(0), []
    for _ in range(FITS):
        scores = Scores(
            np.append(rng.random(a.layers * a.heads) + rng.uniform(-1, 1), rng.random(a.layers * a.neurons)),
            rng.random(a.hidden),
        )
        low = 1.02 * (small.outside + small.smallest)
        limit = int(low + rng.uniform(0, 1) * (cost.outside + cost.dense - low))
        structure = fit_narrow(scores, costs, kind, True, limit - cost.outside)
        found.append(1 - getattr(costs.of(structure), kind).model(structure) / limit)
    return found


@dataclass(frozen=True)
class Fitted:
    """What is fitted: a network, and random scores of it."""

    network: Network
    blank: Blank
    length: int  # of a row
    pricing: Pricing
    speedups: Sequence[float]
    scores: Callable[[np.random.Generator], Scores]


def fitted(model: Path) -> Fitted:
    """A text classifier, or an image classifier."""
    if read_config(model / "config.json")["model_type"] in IMAGE_FAMILIES:
        net = load_images(model, ["a", "b"], 0, "single_label_classification", side=SIDE, multiple=MULTIPLE).eval()
        blank = Blank(Images.of(model, SIDE, False), ("pixel_values",))
        units = net.anatomy.size
        return Fitted(
            net, blank, SIDE, ByMacs(net.costs(SIDE)), SPEEDUPS_OF_IMAGES, lambda rng: Scores(rng.normal(size=units))
        )
    network = load_network(model, ["a", "b"], seed=0).eval()
    a = network.architecture

    def scores(rng: np.random.Generator) -> Scores:
        heads = rng.normal(size=a.layers * a.heads) + rng.uniform(-3, 3)
        return Scores(np.append(heads, rng.normal(size=a.layers * a.neurons)))

    blank = Blank(Text(load_tokenizer(model), LENGTH), INPUTS)
    return Fitted(network, blank, LENGTH, ByUnits(a), SPEEDUPS, scores)


def latency_fits(model: Path, runtime: str, batch: int, out: Path) -> None:
    """Append what `out` lacks: of each fit the readings as parts of the limit, and the table's error."""
    of = fitted(model)
    done = {tuple(line[name] for name in ("model", "runtime", "batch", "draw")) for line in read_results(out)}
    under = conditions(Budget.model_validate({"speedup": 2, "runtime": runtime, "batch_size": batch}), of.length)
    watch = Stopwatch(of.network, of.blank, under)
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as cache:
        for draw in range(FITS):
            speedup = of.speedups[draw % len(of.speedups)]
            if (model.name, runtime, batch, draw) in done:
                continue
            asked = Budget(speedup=speedup)
            state = Path(scratch) / f"{draw}.json"
            budget = LatencyBudget(asked, of.pricing, under, watch.measure, state, Path(cache))
            try:
                structure = budget.fit(of.scores(np.random.default_rng(draw)))
                again = watch.measure(structure).ratio * speedup
            except SpecError:
                again = None  # no structure was within the limit: a job would fail
            met = next((fit["of_dense"] * speedup for fit in budget.fits if fit["kept"]), None)
            first = budget.fits[0]
            facts = {"runtime": runtime, "batch": batch, "speedup": speedup, "draw": draw, "fits": len(budget.fits)}
            facts |= {"met": met, "again": again, "predicted": first["predicted"] / first["of_dense"]}
            append_result(out, facts | {"model": model.name, "environment": environment().model_dump()})
            print(facts, flush=True)


def latency_table(measured: Sequence[Mapping[str, Any]]) -> str:
    """Markdown, a row for each runtime and batch."""
    text = [
        "# Budgets in time",
        "",
        f"Random scores fitted to speed-ups of {', '.join(f'{s:g}' for s in SPEEDUPS)} at {LENGTH} tokens (pictures: "
        f"{', '.join(f'{s:g}' for s in SPEEDUPS_OF_IMAGES)} at {SIDE} pixels), on "
        f"{'; '.join(sorted({line['environment']['device'] for line in measured}))}",
        "(`python -m benchmarks.budget latency`). Met: reading of what was kept over the limit. Again: a second",
        "reading of the same structure, later, which nothing was chosen by; noise: deviation between the two.",
        "Measured: structures until one was kept. Table: how far its prices are off a whole model, uncorrected.",
        "",
        "| model | runtime | batch | held | met, mean (least) | again, mean (most), held "
        "| noise | measured | table (most) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys((line["model"], line["runtime"], line["batch"]) for line in measured):
        rows = [line for line in measured if (line["model"], line["runtime"], line["batch"]) == kind]
        kept = [row for row in rows if row["met"] is not None]
        met, again = [row["met"] for row in kept], [row["again"] for row in kept]
        noise = stdev(b / a for a, b in zip(met, again, strict=True)) if len(kept) > 1 else 0.0
        off = [abs(row["predicted"] - 1) for row in rows]
        text.append(
            f"| {' | '.join(map(str, kind))} | {_held(met, rows)} | {mean(met):.3f} ({min(met):.3f}) "
            f"| {mean(again):.3f} ({max(again):.3f}), {_held(again, rows)} "
            f"| {noise:.1%} | {mean(row['fits'] for row in rows):.1f} "
            f"| {mean(off):.1%} ({max(off):.1%}) |"
        )
    return "\n".join(text) + "\n"


def _held(parts: Sequence[float], rows: Sequence[Any]) -> str:
    return f"{sum(part <= 1 for part in parts)} of {len(rows)}"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("counts", "latency"), default="counts")
    parser.add_argument("--model", type=Path, default=Path("data/models/all-minilm-l6-v2"))
    parser.add_argument("--runtimes", nargs="+", default=["torch", "torch.compile", "onnx"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.what == "counts":
        text, out = counts_table(), given.results / "budget.md"
    else:
        kept, out = given.results / "budget_latency.jsonl", given.results / "budget_latency.md"
        for runtime in given.runtimes:
            latency_fits(given.model, runtime, given.batch, kept)
        text = latency_table(read_results(kept))
    print(text)
    out.write_text(text, encoding="utf-8")


def counts_table() -> str:
    """Markdown, a row for each model and cost."""
    lines = [
        "# Distance to the budget",
        "",
        f"{FITS} random fits a row (`python -m benchmarks.budget`): part of the encoder's limit left, in %; with",
        "`hidden_size: trim` part of the whole model's, for limits from the least that can be reached.",
        "",
        "| model | cost | over the limit | mean | most |",
        "|---|---|---|---|---|",
    ]
    for name, shape in SHAPES.items():
        costs = costs_of(*shape)
        for kind in ("params", "macs", "bytes"):
            lines.append(_row(name, kind, slacks(costs, kind)))
    for name in NARROW:
        lines.append(_row(f"{name}, `hidden_size: trim`", "params", narrow_slacks(costs_of(*SHAPES[name]), "params")))
    return "\n".join(lines) + "\n"


def _row(name: str, kind: str, left: Sequence[float]) -> str:
    over = sum(value < 0 for value in left)
    return f"| {name} | {kind} | {over} of {FITS} | {100 * mean(left):.3f} | {100 * max(left):.3f} |"


if __name__ == "__main__":
    main()
