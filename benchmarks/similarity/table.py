"""similarity.md: what every cell kept of the dense model's search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from benchmarks.similarity.cells import DEV, LENGTH, TEST, TEXTS, Cell

T95 = {1: float("inf"), 2: 12.706, 3: 4.303, 4: 3.182}  # Student's, by the number of seeds
INTRO = f"""# Embedding models: what is kept of a search

`python -m benchmarks.similarity` printed this: all-MiniLM-L6-v2, {TEST:,} test queries among as many documents,
{DEV} pairs to select on, up to {TEXTS:,} texts without labels as a source, texts of at most {LENGTH} tokens; every arm
is recovered with the same texts and losses, for as many steps as its row says. Debian: synopsis -> long description
of packages; mail: subject -> body.

"of dense" is nDCG@10 as a share of what the model as given reaches with its whole vocabulary on the same rows (mean
over seeds; with 1,000 pairs they are other rows). "change": pruned less dense in points, paired; of one seed the
interval is a bootstrap over queries, of several Student's over seeds. Speed-up: eager, batch 1 / 32,
both in turn in the same run, which others may disturb.

"""
ALONE = """## Texts alone

Of 100 documents without labels and the source's texts: agreement with the dense model on 1,000 other documents, mean
cosine and the share of the ten nearest that are the same. It says nothing of quality.

"""
SHORTER = """## First dimensions of the vectors

nDCG@10 of searching with so many first dimensions alone, with `task.dimensions`: of the dense model, whose vectors are
turned for it, and of the pruned one.

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
    cells = sorted(groups, key=place)
    # Of the rows that most cells are measured on, and those that train nothing: other numbers of pairs leave others.
    dense = [line for line in lines if line.get("given") and line["cell"]["pairs"] == 100 and not line["cell"]["seed"]]
    given = {line["cell"]["data"]: line["given"]["ndcg_at_10"]["value"] for line in dense}
    rows = [
        [name, "dense, as given", "100%", "keep", "", "", "", f"{100 * value:.1f}", "100.0%", "", "", "90.9"]
        for name, value in sorted(given.items())
    ]
    rows += [row(cell, groups[cell], given.get(cell.data)) for cell in cells if cell.pairs]
    alone = [agreement(cell, groups[cell]) for cell in cells if not cell.pairs]
    short = [kept for cell in cells for kept in shorter(cell, groups[cell])]
    parts = [INTRO + table(HEAD, rows)]
    parts += [ALONE + table(["data", "what", "kept", "seeds", "cosine", "same neighbours"], alone)] if alone else []
    parts += [SHORTER + table(["data", "what", "dimensions", "dense", "pruned"], short)] if short else []
    return "\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as Markdown."""
    rule = "|" + " --- |" * len(head)
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(cells)} |" for cells in rows)]) + "\n"


def agreement(cell: Cell, lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was kept of the dense model's vectors of texts without labels."""
    found = (fmean(line["pruned"][name]["value"] for line in lines) for name in ("cosine", "same_neighbours"))
    return [
        cell.data,
        cell.arm,
        f"{100 * lines[0]['fraction']:.0f}%",
        str(len(lines)),
        *(f"{value:.3f}" for value in found),
    ]


def shorter(cell: Cell, lines: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    """nDCG@10 of first dimensions alone, by how many."""
    for size in lines[0].get("shorter", {}).get("pruned", {}):
        found = (
            fmean(line["shorter"][which][size]["ndcg_at_10"]["value"] for line in lines)
            for which in ("dense", "pruned")
        )
        yield [cell.data, cell.arm, size, *(f"{100 * value:.1f}" for value in found)]


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
