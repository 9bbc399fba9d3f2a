"""images.md: what every arm kept of the dense classifier, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.images.cells import ARMS, Cell, order
from benchmarks.images.data import PAIRS
from benchmarks.transfer.table import interval, paired

INTRO = """# Image classifiers: few labelled pictures, and others beside

`python -m benchmarks.images` printed this: MobileNetV2 (ImageNet), 100 rows to select on, all others to measure on,
widths in multiples of 16, the product's default steps. Points of the pair's metric, means over seeds with 95 %
Student's t intervals; "less": the difference of pruned models, paired by seed. "dense": the same arm's fine-tuned
model before it is cut. "commonest": always the commonest training answer. Milliseconds of the structures:
images_speed.md.

"""
METRICS = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}
Lines = Sequence[Mapping[str, Any]]


def markdown(lines: Lines) -> str:
    """The page: a section for each pair, rows and budget, and what was not run."""
    sections: dict[tuple[str, int, str], dict[str, dict[int, Mapping[str, Any]]]] = {}
    for line in lines:
        cell = Cell(**line["cell"])
        arms = sections.setdefault((cell.pair, cell.rows, cell.asked), {})
        arms.setdefault(cell.arm, {})[cell.seed] = line
    parts = [INTRO]
    for (pair, rows, asked), arms in sections.items():
        first = next(iter(next(iter(arms.values())).values()))
        usual = 100 * first["baseline"][first["metric"]]["value"]
        tested = f"{METRICS[PAIRS[pair].metric]} on {first['data']['test']:,} rows; commonest {usual:.1f}"
        parts += [f"## {pair}, {rows} rows, {asked}\n\n{tested}.\n\n", _table(arms), "\n"]
    ran = {Cell(**line["cell"]) for line in lines}
    left = [cell for block in order().values() for cell in block if cell not in ran]
    if left:
        parts += [f"## Not run: {len(left)} cells\n\n", *(f"- {cell}\n" for cell in left)]
    return "".join(parts).rstrip() + "\n"


def points(runs: Mapping[int, Mapping[str, Any]], model: str = "pruned") -> dict[int, float]:
    """Seed -> points of the metric."""
    return {seed: 100 * line[model][line["metric"]]["value"] for seed, line in runs.items()}


def _table(arms: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> str:
    others = [name for name in ("none", "teacher", "zeros by gradual magnitude", "zeros at once") if name in arms]
    head = ["arm", "seeds", "dense", "pruned", *(f"less `{other}`" for other in others), "what it is"]
    rows = []
    for name in (arm for arm in ARMS if arm in arms):
        found = points(arms[name])
        against = ["" if other == name else shown(paired(found, points(arms[other])), sign=True) for other in others]
        dense = f"{fmean(points(arms[name], 'dense').values()):.1f}"
        what = ARMS[name].what + _chosen(arms[name])
        rows.append([name, str(len(found)), dense, shown([*found.values()]), *against, what])
    rule = "|" + " --- |" * len(head)
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def shown(values: Sequence[float], *, sign: bool = False) -> str:
    """Mean and interval."""
    if not values:
        return ""
    mean, half = interval(values)
    return f"{mean:+.1f}" * sign + f"{mean:.1f}" * (not sign) + (f" ± {half:.1f}" if half is not None else "")


def _chosen(runs: Mapping[int, Mapping[str, Any]]) -> str:
    told = [line["transfer"]["auto"]["chosen"] for line in runs.values() if (line["transfer"] or {}).get("auto")]
    return f": {'; '.join(told)}" if told else ""
