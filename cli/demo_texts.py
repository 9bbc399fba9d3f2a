"""The demo of texts: all-MiniLM-L6-v2 to a tenth of its encoder, for reviews of products; those of films beside."""

from __future__ import annotations

from cli.demo import Demo
from cli.fetch import MODEL, fetch

TEXTS = Demo(
    fetch=fetch,
    rows="target: {:,} rated product sentences; source: {:,} of movies",
    asked="Prune to a tenth of the encoder, with 100 labelled rows",
    job={
        "model": MODEL,
        "task": {"split": {"train": 100, "dev": 100}},
        "budget": {"params": 0.1, "of": "encoder"},
    },
    measure=lambda _target, folders: ["cli.measure", *map(str, folders)],
    headings=("encoder params", "all params"),
    cells=lambda result: (f"{result.encoder_params:,}", f"{result.model_params:,}"),
    title=lambda report: f"{MODEL}, pruned to {report.budget.fraction:.1%} of its encoder",
    latency="one pass at 128 tokens",
    table="table.md",
)
