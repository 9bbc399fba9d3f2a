"""The table of methods: quality against seconds, means over seeds, and which of them nothing beats in both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from benchmarks.transfer.cells import DEV_ROWS, METHOD_ARMS, SHORT, Cell, cell_of, finished, steps_of
from benchmarks.transfer.data import MAX_LENGTH, PAIRS
from benchmarks.transfer.table import METRICS, interval, paired

Runs = Mapping[int, tuple[float, float]]  # seed -> points, seconds
Section = tuple[str, int, float, bool]  # pair, rows, kept, whether of single weights


def of_steps(results: Sequence[Mapping[str, Any]], steps: Mapping[str, int]) -> list[Mapping[str, Any]]:
    """The runs that took as many steps."""
    return [r for r in results if r["steps"] == steps_of(METHOD_ARMS[r["cell"]["arm"]], steps)]


def sections(results: Sequence[Mapping[str, Any]]) -> dict[Section, dict[str, dict[int, tuple[float, float]]]]:
    """Section -> arm -> seed -> points, seconds of the prune and recover stages."""
    found: dict[Section, dict[str, dict[int, tuple[float, float]]]] = defaultdict(lambda: defaultdict(dict))
    for result in results:
        cell, seconds = cell_of(result), result["cpu_seconds"]
        points = 100 * result["pruned"][PAIRS[cell.pair].metric]["value"]
        zeros = METHOD_ARMS[cell.arm].pattern is not None
        spent = seconds["prune"] + seconds.get("recover", 0.0)
        found[cell.pair, cell.rows, cell.kept, zeros][cell.arm][cell.seed] = points, spent
    return found


def markdown(
    results: Sequence[Mapping[str, Any]],
    planned: Sequence[Cell],
    _unavailable: Mapping[str, str],
    steps: Mapping[str, int],
) -> str:
    """A section for each pair and part kept that any run stands of, then how much was not run."""
    used = of_steps(results, steps)
    total = " + ".join(f"{count} {stage}" for stage, count in steps.items())
    revisions = ", ".join(sorted({str(r["revision"]) for r in used})) or "none"
    machines = ", ".join(sorted({str(r["environment"]["device"]) for r in used})) or "none"
    lines = [
        "# Methods, measured",
        "",
        f"{len(used)} runs, code {revisions}, {machines} (`python -m benchmarks.methods`, methods.jsonl).",
        f"Every method takes {total} steps of the same batch size, but for those of short ({SHORT:.0%} of the steps "
        f"after teaching) or no recovery; what trains nothing while it prunes recovers for as many steps "
        f"more. {DEV_ROWS} dev rows, texts of {MAX_LENGTH} tokens, the same held-out rows and the same teacher for a "
        "seed. Quality: mean over seeds, in points, with the 95 % t interval. "
        "Seconds: of the processor, one thread, in the prune and recover stages; teaching is the same for all. "
        "*front*: no other row of its table is both better and quicker.",
        "",
        *(["![Quality against seconds](methods.svg)", ""] if any(not s[-1] for s in sections(used)) else []),
    ]
    for (pair, rows, kept, zeros), arms in sorted(sections(used).items()):
        what = "of single weights kept" if zeros else "of the encoder kept"
        lines += [f"## {pair}, {rows} rows, {kept:.0%} {what}", "", *_section(PAIRS[pair].metric, arms), ""]
    missing = [cell for cell in planned if cell not in finished(results, steps)]
    return "\n".join([*lines, f"Not run: {len(missing)} of {len(planned)} planned cells."]) + "\n"


def _section(metric: str, arms: Mapping[str, Runs]) -> list[str]:
    lines = [
        f"| | seeds | {METRICS[metric]} | by seed | against random units | seconds | front |",
        "|---|---|---|---|---|---|---|",
    ]
    centre = {arm: tuple(map(mean, zip(*runs.values(), strict=True))) for arm, runs in arms.items()}
    for arm in (name for name in METHOD_ARMS if name in arms):
        points = {seed: value for seed, (value, _) in arms[arm].items()}
        chance = {seed: value for seed, (value, _) in arms.get(f"{arm.split('-')[0]}-random", {}).items()}
        beaten = any(
            other[0] >= centre[arm][0] and other[1] <= centre[arm][1] and other != centre[arm]
            for other in centre.values()
        )
        cells = (
            METHOD_ARMS[arm].what,
            len(points),
            _show(list(points.values()), ""),
            ", ".join(f"{points[seed]:.1f}" for seed in sorted(points)),
            _show(paired(points, chance), "+"),
            f"{centre[arm][1]:.0f}",
            "" if beaten else "front",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _show(values: Sequence[float], sign: str) -> str:
    if not values:
        return ""
    middle, half = interval(values)
    return f"{middle:{sign}.1f}" + (" (one seed)" if half is None else f" ± {half:.1f}")
