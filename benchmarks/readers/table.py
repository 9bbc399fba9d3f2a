"""readers.md: means over seeds with 95 % Student's t intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.transfer.table import interval

INTRO = """# Layers with channels of their own

Readers with their own channels (UPSCALE, arXiv 2307.08771) against shared ones, and torch-pruning's choice of these:
`python -m benchmarks.readers` printed this. Points of accuracy, before and after a short recovery; agrees: with the
dense network. Latency: of the dense network's, seed 0.
"""
HEAD = ["removed", "by", "readers", "seeds", "of the MACs", "read apart", "gather", "at once", "recovered", "agrees"]
TOLD = (("at once", "accuracy"), ("recovered", "accuracy"), ("recovered", "agrees"))
KEYS = ("removed", "by", "readers")
Lines = Sequence[Mapping[str, Any]]


def table(lines: Lines) -> str:
    """The page."""
    page = [INTRO]
    for name in dict.fromkeys(line["net"] for line in lines):
        runs = sorted((line for line in lines if line["net"] == name), key=lambda line: line["seed"])
        learned = {line["seed"]: line["dense"]["accuracy"] for line in runs}
        dense = ", ".join(f"{100 * accuracy:.1f}" for accuracy in learned.values())
        timed = [*runs[0]["latency"]]
        head = [*HEAD, *timed]
        page += [f"## {name}\n", f"Dense: {dense}.\n", f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
        for key in dict.fromkeys(tuple(line[part] for part in KEYS) for line in runs):
            same = [line for line in runs if tuple(line[part] for part in KEYS) == key]
            page.append(f"| {' | '.join(row(same, timed))} |")
        page.append("")
    return "\n".join(page)


def row(same: Lines, timed: Sequence[str]) -> list[str]:
    """Of one cut of all seeds; the first is timed."""
    first = [
        f"{same[0]['removed']:.0%}",
        same[0]["by"],
        same[0]["readers"],
        str(len(same)),
        f"{fmean(one['macs'] for one in same):.1%}",
    ]
    counts = [f"{fmean(one[key] for one in same):.0f}" for key in ("own", "gathered")]
    told = [shown([one[when][what] for one in same if when in one]) for when, what in TOLD]
    return [*first, *counts, *told, *(f"{here:.2f}" if here else "" for here in map(same[0]["latency"].get, timed))]


def shown(values: Sequence[float]) -> str:
    """In points."""
    if not values:
        return ""
    mean, half = interval([100 * value for value in values])
    return f"{mean:.1f}" + (f" ± {half:.1f}" if half is not None else "")
