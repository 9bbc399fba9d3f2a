"""How much faster pruned models run: by runtime, batch and how much was removed, beside torch-pruning's model.

    python -m benchmarks.speed [--models MODEL ...] [--runtimes RUNTIME ...] [--batches N ...] [--threads N]

MODEL: minilm (data/models/all-minilm-l6-v2) or bert-base (its shapes, random weights). Every model is measured in turn
with the dense one under the same runtime, so that ratios hold on a noisy machine (core/pruning/latency/stopwatch.py).
Structures are `fisher`'s on rows of random tokens, and torch-pruning's group magnitudes, at the same number of
parameters. Random weights hardly tell layers apart, so bert-base keeps most of its blocks, if thin: that is slow.
Each figure is appended to results/speed.jsonl, and not measured again by the next run; results/speed.md is made of it.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import onnx
import torch
from onnxruntime.quantization import quantize_dynamic
from transformers import BertConfig, BertForSequenceClassification

from benchmarks.overhead import make_rows
from benchmarks.transfer.cells import append_result, read_results
from benchmarks.transfer.controls import magnitude
from core.domains.fit import fit
from core.domains.network import TARGET
from core.domains.structure import Structure
from core.domains.transformer.costs import Costs
from core.domains.transformer.cut import cut
from core.domains.transformer.load import load_network
from core.domains.transformer.network import TransformerNetwork
from core.pruning.export.files import environment
from core.pruning.latency.onnx import write_onnx
from core.pruning.latency.runtimes import conditions, session
from core.pruning.latency.stopwatch import Reading, Stopwatch, compare
from core.pruning.reading.tokenizer import load_tokenizer
from core.pruning.scoring.fitter import Fitter
from core.pruning.scoring.importance import importance
from core.pruning.training.coupling import TaskRows, phases
from core.rows.modality import Blank
from core.rows.text.processor import Text
from core.spec.budget import Budget

RESULTS = Path(__file__).parent / "results"
MINILM = Path("data/models/all-minilm-l6-v2")
REMOVED = (0.5, 0.8, 0.9, 0.95)  # of the encoder's parameters
RUNTIMES = ("torch", "torch.compile", "onnx")
INT8 = "onnx, int8"
LENGTH = 128
BATCHES = 8  # that units are scored on
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def model_folder(name: str, scratch: Path) -> Path:
    """Where the model lies; that of random weights is made."""
    if name == "minilm":
        return MINILM
    torch.manual_seed(0)
    BertForSequenceClassification(BertConfig()).save_pretrained(scratch)
    return scratch


def structures(folder: Path, network: TransformerNetwork) -> dict[tuple[str, float], Structure]:
    """(whose, how much of the encoder was removed) -> what is left."""
    shapes = {name: tuple(p.shape) for name, p in network.assembled().named_parameters()}
    cost = Costs.from_shapes(network.architecture, shapes, LENGTH).params
    rows = TaskRows(make_rows(32 * BATCHES, network.body.config.vocab_size, 0), TARGET, 2)
    fitter, plan = Fitter(cost, cost.dense), phases("none", "prune", False, rows, [], 32)
    scores = importance(copy.deepcopy(network), fitter, plan, 0, BATCHES)
    body = network.body.state_dict()
    found = {}
    for removed in REMOVED:
        limit = int((1 - removed) * cost.dense)
        found["fisher", removed] = fit(scores, cost, limit)
        found["torch-pruning", removed] = magnitude(cost, limit, network.architecture, folder, body)
    return found


def int8(network: TransformerNetwork, structure: Structure, watch: Stopwatch) -> Callable[[], object]:
    """The cut model in ONNX Runtime with its weights in int8, activations quantised as they come."""
    model = copy.deepcopy(network)
    cut(model, structure)
    with tempfile.TemporaryDirectory() as folder:
        exact, quantised = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        write_onnx(model.assembled().cpu(), watch.blank.traced, exact)
        exported = onnx.load(exact)
        exported.graph.ClearField("value_info")  # shapes of weights that quantising transposes
        quantize_dynamic(exported, quantised)
        return session(quantised, watch.blank(watch.under.batch_size, watch.under.length), watch.under)


def readings(network: TransformerNetwork, blank: Blank, structure: Structure, runtime: str, batch: int) -> Reading:
    """One figure."""
    budget = Budget.model_validate({"speedup": 2, "runtime": runtime.split(",")[0], "batch_size": batch})
    watch = Stopwatch(network, blank, conditions(budget, LENGTH))
    if runtime == INT8:
        return compare(watch.ready(Structure.dense(network.architecture.anatomy)), int8(network, structure, watch))
    return watch.measure(structure)


def measure(models: Sequence[str], runtimes: Sequence[str], batches: Sequence[int], out: Path) -> None:
    """Whatever `out` does not hold yet."""
    done = {_key(line) for line in read_results(out)}
    for name in models:
        with tempfile.TemporaryDirectory() as scratch:
            folder = model_folder(name, Path(scratch))
            network = load_network(folder, ["a", "b"], seed=0).eval()
            blank = Blank(Text(load_tokenizer(folder), LENGTH), INPUTS)
            dense = {("dense", 0.0): Structure.dense(network.architecture.anatomy)}
            every: Mapping[tuple[str, float], Structure] = dense | structures(folder, network)
        for runtime in runtimes:
            for batch in batches:
                for (whose, removed), structure in every.items():
                    cell = {"model": name, "runtime": runtime, "batch": batch, "by": whose, "removed": removed}
                    if _key(cell) in done or (runtime == INT8 and whose == "torch-pruning"):
                        continue
                    reading = readings(network, blank, structure, runtime, batch)
                    facts = (
                        cell | asdict(reading) | {"sizes": structure.sizes(), "environment": environment().model_dump()}
                    )
                    append_result(out, facts)
                    print({**cell, "ms": round(reading.ms, 2), "times": round(1 / reading.ratio, 2)}, flush=True)


def _key(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(line[name] for name in ("model", "runtime", "batch", "by", "removed"))


def table(measured: Sequence[Mapping[str, Any]]) -> str:
    """Markdown; a figure that was not measured is a dash."""
    found = {_key(line): line for line in measured}
    head = " | ".join(f"{removed:.0%} removed" for removed in REMOVED)
    text = [
        "# Speed-up by pruning alone",
        "",
        f"Dense over pruned latency of texts of {LENGTH} tokens, in turn, under one runtime in float32 (int8: over",
        "the dense float32 model in ONNX Runtime). In brackets: torch-pruning's ranking by group magnitudes, cut to as",
        "many parameters. `python -m benchmarks.speed --help` says how structures were chosen.",
        "",
        f"| model | runtime | batch | dense ms | {head} |",
        "|---|---|---|---|" + "---|" * len(REMOVED),
    ]
    order = [*RUNTIMES, INT8]
    rows = {_key(line)[:3] for line in measured}
    for model, runtime, batch in sorted(rows, key=lambda row: (row[0] != "minilm", order.index(row[1]), row[2])):
        at = partial(_times, found, model, runtime, batch)
        dense = found.get((model, runtime, batch, "dense", 0.0))
        cells = [
            at("fisher", removed) + (f" ({at('torch-pruning', removed)})" if runtime != INT8 else "")
            for removed in REMOVED
        ]
        ms = f"{dense['ms']:.1f}" if dense else "–"
        text.append(f"| {model} | {runtime} | {batch} | {ms} | {' | '.join(cells)} |")
    return "\n".join([*text, "", *_noise(measured)]) + "\n"


def _times(found: Mapping[tuple[Any, ...], Any], model: str, runtime: str, batch: int, by: str, removed: float) -> str:
    line = found.get((model, runtime, batch, by, removed))
    return f"{line['dense_ms'] / line['ms']:.1f}x" if line else "–"


def _noise(measured: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The dense model was measured against itself, too: what that is off 1 by is noise."""
    same = [line for line in measured if line["by"] == "dense" and line["runtime"] != INT8]
    off = [abs(line["ms"] / line["dense_ms"] - 1) for line in same]
    if off:
        yield f"On {', '.join(sorted({line['environment']['device'] for line in measured}))}."
        yield f"The dense model against itself: {mean(off):.1%} off on average, at most {max(off):.1%}."


def main() -> None:
    """Measure what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=("minilm", "bert-base"), default=["minilm", "bert-base"])
    parser.add_argument("--runtimes", nargs="+", choices=(*RUNTIMES, INT8), default=[*RUNTIMES, INT8])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    measure(given.models, given.runtimes, given.batches, given.results / "speed.jsonl")
    text = table(read_results(given.results / "speed.jsonl"))
    print(text)
    (given.results / "speed.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
