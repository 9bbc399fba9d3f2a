"""How near to its limit `fit` comes: 30 random fits for each cost and family, on the shapes of published models.

    python -m benchmarks.budget

Scores, limits (2 % to 100 % of the dense encoder's cost) and the balance between heads and neurons are random. Prints
and writes results/budget.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from core.pruning.fit import Scores, fit
from core.spec.cost import Costs
from core.spec.families import FAMILIES, Architecture

FITS = 30
LENGTH = 128
OUT = Path(__file__).parent / "results" / "budget.md"
# config.json of a published model, as far as its class's defaults do not say it: (hidden, heads, layers, FFN neurons).
SHAPES: Mapping[str, tuple[str, tuple[int, int, int, int]]] = {
    "all-MiniLM-L6-v2": ("bert", (384, 12, 6, 1536)),
    "BERT base": ("bert", (768, 12, 12, 3072)),
    "RoBERTa base": ("roberta", (768, 12, 12, 3072)),
    "DistilBERT base": ("distilbert", (768, 12, 6, 3072)),
    "ELECTRA small": ("electra", (256, 4, 12, 1024)),
    "MPNet base": ("mpnet", (768, 12, 12, 3072)),
    "ModernBERT base": ("modernbert", (768, 12, 22, 1152)),
}


def costs_of(family: str, sizes: tuple[int, int, int, int]) -> Costs:
    """Of a model of these sizes; nothing is allocated."""
    config = AutoConfig.for_model(family, **dict(zip(FAMILIES[family].sizes, sizes, strict=True)), num_labels=2)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    return Costs.from_shapes(Architecture.from_config(config.to_dict()), shapes, LENGTH)


def slacks(costs: Costs, kind: str) -> list[float]:
    """Part of the limit that each fit leaves; negative would be over it."""
    cost, rng = getattr(costs, kind), np.random.default_rng(0)
    a, found = costs.params.architecture, []
    for _ in range(FITS):
        heads = rng.normal(size=(a.layers, a.heads)) + rng.uniform(-3, 3)
        limit = int(rng.uniform(0.02, 1) * cost.dense)
        met = cost.encoder(fit(Scores(heads, rng.normal(size=(a.layers, a.neurons))), cost, limit))
        found.append(1 - met / limit)
    return found


def main() -> None:
    """Measure, print and write."""
    lines = [
        "# Distance to the budget",
        "",
        f"{FITS} random fits a row (`python -m benchmarks.budget`): part of the encoder's limit that is left, in %.",
        "",
        "| model | cost | over the limit | mean | most |",
        "|---|---|---|---|---|",
    ]
    for name, (family, sizes) in SHAPES.items():
        costs = costs_of(family, sizes)
        for kind in ("params", "macs", "bytes"):
            left = slacks(costs, kind)
            over = sum(value < 0 for value in left)
            lines.append(f"| {name} | {kind} | {over} of {FITS} | {100 * mean(left):.3f} | {100 * max(left):.3f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    OUT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
