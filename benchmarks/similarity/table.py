"""similarity.md: what every cell kept of the dense model's search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from benchmarks.similarity.cells import DEV, LENGTH, TEST, TEXTS, Cell

T95 = {1: float("inf"), 2: 12.706, 3: 4.303, 4: 3.182}  # Student's, by the number of seeds
INTRO = f"""# Embedding models: what is kept of a search

`python -m benchmarks.similarity` printed this: all-MiniLM-L6-v2, {TEST:,} test queries among as many documents,
{DEV} pairs to select on, up to {TEXTS:,} texts without labels as a source, texts of at most {LENGTH} tokens; every arm
is recovered with the same texts, losses and steps. Debian: synopsis -> long description of packages; mail: subject
-> body.

"of dense" is nDCG@10 as a share of what the model as given reaches with its whole vocabulary on the same rows (mean
over seeds). "change": pruned less dense in points, paired; of one seed the interval is a bootstrap over queries, of
several Student's over seeds. Speed-up: eager, batch 1 / 32, both in turn in the same run, which others may disturb.

"""
HEAD = [
    "data",
    "what",
    "kept",
    "vocabulary",
    "pairs",
    "steps",
    "seeds",
    "nDCG@10",
    "of dense",
    "change",
    "speed-up",
    "MB",
]


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """The page."""
    groups: dict[Cell, list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault(replace(Cell(**line["cell"]), seed=0), []).append(line)
    given = {line["cell"]["data"]: line["given"]["ndcg_at_10"]["value"] for line in lines if "given" in line}
    rows = [
        [name, "dense, as given", "100%", "keep", "", "", "", f"{100 * value:.1f}", "100.0%", "", "", "90.9"]
        for name, value in sorted(given.items())
    ]
    rows += [row(cell, groups[cell], given.get(cell.data)) for cell in sorted(groups, key=place)]
    text = [f"| {' | '.join(HEAD)} |", "|" + " --- |" * len(HEAD)]
    return INTRO + "\n".join([*text, *(f"| {' | '.join(cells)} |" for cells in rows)]) + "\n"


def place(cell: Cell) -> tuple[Any, ...]:
    """Where a cell stands."""
    return cell.data, -cell.kept, cell.vocabulary, cell.pairs, cell.recover or 0, cell.arm


def row(cell: Cell, lines: Sequence[Mapping[str, Any]], given: float | None) -> list[str]:
    """Cells of all seeds of one kind."""
    values = [line["pruned"]["ndcg_at_10"]["value"] for line in lines]
    shares = [
        v / (line["given"]["ndcg_at_10"]["value"] if "given" in line else given or 1)
        for v, line in zip(values, lines, strict=True)
    ]
    trained = "change" in lines[0]
    size = fmean(line["bytes"]["pruned"] for line in lines) / 1e6 if "bytes" in lines[0] else None
    speed = [fmean(line["speedup"][batch] for line in lines) for batch in ("1", "32")] if trained else []
    return [
        cell.data,
        cell.arm,
        f"{100 * lines[0]['fraction']:.0f}%" if trained else "",
        cell.vocabulary if trained else "",
        str(cell.pairs) if trained else "",
        str(lines[0]["steps"]["recover"]) if trained else "",
        str(len(lines)),
        f"{100 * fmean(values):.1f}",
        f"{fmean(shares):.1%}",
        change(lines) if trained else "",
        " / ".join(f"{value:.1f}x" for value in speed),
        "" if size is None else f"{size:.1f}",
    ]


def change(lines: Sequence[Mapping[str, Any]]) -> str:
    """Pruned less dense, in points."""
    parts = [line["change"] for line in lines]
    if len(parts) == 1:
        value, low, high = (100 * parts[0][name] for name in ("value", "low", "high"))
        return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
    values = [100 * part["value"] for part in parts]
    reach = T95[len(values)] * stdev(values) / sqrt(len(values))
    return f"{fmean(values):+.1f} (± {reach:.1f})"
