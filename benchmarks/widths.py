"""Whether FFN widths that are multiples of what a kernel likes are faster per parameter than those that `fit` gives.

    python -m benchmarks.widths MODEL_DIR [--seconds S]

An uneven width is drawn for each layer, made odd, or rounded to multiples of 8, 16 and 32. Models with all heads
and these widths take turns in one process on one thread; the time that a pass waited for a core is taken off, and of
its passes the lower quartile counts. Writes benchmarks/results/widths.{json,md}: nanoseconds per parameter of the
encoder, as a ratio to the odd widths.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.domains.structure import Structure
from core.domains.transformer.costs import Costs
from core.domains.transformer.load import load_network
from core.pruning.export.files import environment
from core.pruning.latency import stopwatch
from core.pruning.latency.runtimes import conditions
from core.pruning.latency.stopwatch import Stopwatch, in_turn
from core.pruning.reading.tokenizer import load_tokenizer
from core.rows.modality import Blank
from core.rows.text.processor import Text
from core.spec.budget import Budget

RESULTS = Path(__file__).parent / "results"
LENGTH = 64
STEPS = (1, 8, 16, 32)
RUNTIMES, BATCHES = ("torch", "onnx"), (1, 32)
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def widths(layers: int, neurons: int, step: int) -> list[int]:
    """Of each layer: the same draw from a sixteenth to a half of `neurons`, odd or rounded to multiples of `step`."""
    drawn = np.random.default_rng(0).uniform(neurons / 16, neurons / 2, layers)
    return [int(width // 2) * 2 + 1 if step == 1 else max(1, round(width / step)) * step for width in drawn]


def measure(model: Path, seconds: float) -> dict[str, Any]:
    """Nanoseconds a parameter: runtime and batch -> step -> figure."""
    network = load_network(model, ["a", "b"], seed=0).eval()
    a = network.architecture
    shapes = {name: tuple(p.shape) for name, p in network.assembled().named_parameters()}
    cost = Costs.from_shapes(a, shapes, LENGTH).params
    every = {
        step: Structure.of([range(a.heads)] * a.layers, map(range, widths(a.layers, a.neurons, step))) for step in STEPS
    }
    stopwatch.SECONDS = seconds
    found: dict[str, Any] = {}
    for runtime in RUNTIMES:
        for batch in BATCHES:
            budget = Budget.model_validate({"speedup": 2, "runtime": runtime, "batch_size": batch})
            watch = Stopwatch(network, Blank(Text(load_tokenizer(model), LENGTH), INPUTS), conditions(budget, LENGTH))
            times, waited = in_turn({str(step): watch.ready(structure) for step, structure in every.items()})
            found[f"{runtime}, batch {batch}"] = {
                str(step): 1e9
                * float(np.quantile(np.subtract(times[str(step)], waited[str(step)]), 0.25))
                / cost.of(structure)
                for step, structure in every.items()
            }
            print(runtime, batch, found[f"{runtime}, batch {batch}"], flush=True)
    return found


def write(facts: dict[str, Any]) -> None:
    """JSON, and the same as Markdown."""
    lines = [
        "# Widths that kernels like",
        "",
        f"Time per parameter of {facts['model']}'s encoder with uneven FFN widths at {LENGTH} tokens, rounded to",
        f"multiples, over that of odd widths in the same run, on {facts['environment']['device']}",
        "(`python -m benchmarks.widths`).",
        "",
        "| runtime | " + " | ".join(f"multiples of {step}" for step in STEPS[1:]) + " |",
        "|---|" + "---|" * len(STEPS[1:]),
    ]
    for name, figures in facts["ns_per_parameter"].items():
        lines.append(f"| {name} | " + " | ".join(f"{figures[str(s)] / figures['1']:.3f}" for s in STEPS[1:]) + " |")
    text = "\n".join(lines) + "\n"
    (RESULTS / "widths.json").write_text(json.dumps(facts, indent=2) + "\n")
    (RESULTS / "widths.md").write_text(text)
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=40.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures = measure(given.model, given.seconds)
    write({"model": given.model.name, "environment": environment().model_dump(), "ns_per_parameter": figures})
