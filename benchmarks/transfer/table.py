"""The table: means over seeds with 95 % intervals, and paired differences, from the lines of the runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import correlation, mean, stdev
from typing import Any

from benchmarks.transfer.cells import ARMS, AS_ARM, DEV_ROWS, READ_FIRST, Cell, cell_of, finished, steps_of
from benchmarks.transfer.data import MAX_LENGTH, PAIRS
from core.pruning.trials.relatedness import WELL_RELATED

# Student's t, 97.5 %, for 1, 2, ... degrees of freedom; beyond, the last (too wide rather than too narrow).
T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
METRICS = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "f1": "macro F1"}
DENSE, DENSE_TRANSFER = "dense", "dense-transfer"
LEAST_WAY = 0.5  # points: a share of less is noise

Values = Mapping[int, float]  # seed -> points
Section = tuple[str, int, float]  # pair, rows, kept


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and half the width of its 95 % t interval; no interval for a single value."""
    if len(values) < 2:
        return mean(values), None
    t = T975[min(len(values) - 1, len(T975)) - 1]
    return mean(values), t * stdev(values) / sqrt(len(values))


def paired(first: Values, second: Values) -> list[float]:
    """First minus second, of the seeds that both have."""
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]


def way_closed(arm: Values, none: Values, goal: Values) -> float | None:
    """Share of the mean way from `none` to `goal`, over seeds that all have; None where there is no way to speak of."""
    seeds = arm.keys() & none.keys() & goal.keys()
    way = mean(goal[s] - none[s] for s in seeds) if seeds else 0.0
    return mean(arm[s] - none[s] for s in seeds) / way if way >= LEAST_WAY else None


def collect(results: Iterable[Mapping[str, Any]], metric: str = "") -> dict[Section, dict[str, dict[int, float]]]:
    """Section -> arm -> seed -> points of the pair's metric, or of `metric`. A later line replaces an earlier one.

    The dense models were measured in the runs that taught them: `dense` in `none`, `dense-transfer` in `teacher` and
    `sequential`, which teach alike; no budget touches them. Pairs of one target that are measured on the
    same rows share `dense` and `none`, which no source enters.
    """
    table: dict[Section, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    none: dict[tuple[str, int | None, int, float], dict[int, float]] = defaultdict(dict)
    dense: dict[tuple[str, int | None, int], dict[int, float]] = defaultdict(dict)
    for result in results:
        cell, pair = cell_of(result), PAIRS[result["cell"]["pair"]]
        points, dense_points = (100 * float(result[m][metric or pair.metric]["value"]) for m in ("pruned", "dense"))
        if cell.arm == "none":
            none[pair.target, pair.test, cell.rows, cell.kept][cell.seed] = points
            dense[pair.target, pair.test, cell.rows][cell.seed] = dense_points
        if cell.arm in ("teacher", "sequential"):
            dense[cell.pair, None, cell.rows][cell.seed] = dense_points
        table[cell.pair, cell.rows, cell.kept][cell.arm][cell.seed] = points
    for (name, rows, kept), arms in table.items():
        target, test = PAIRS[name].target, PAIRS[name].test
        shared = {
            "none": none[target, test, rows, kept],
            DENSE: dense[target, test, rows],
            DENSE_TRANSFER: dense[name, None, rows],
        }
        arms.update({arm: dict(values) for arm, values in shared.items() if values})
    return {section: dict(arms) for section, arms in table.items()}


def markdown(
    results: Sequence[Mapping[str, Any]],
    planned: Sequence[Cell],
    unavailable: Mapping[str, str],
    steps: Mapping[str, int],
) -> str:
    """All of it: a section for each pair, rows and part kept that any run stands of, then what was not run."""
    done = finished(results, steps)
    used = [r for r in results if r["steps"] == steps_of(ARMS[r["cell"]["arm"]], steps)]
    lines = [
        "# Transfer, measured",
        "",
        *_about(used, steps),
        "",
        "| arm | what it is |",
        "|---|---|",
        *(f"| `{arm.name}` | {arm.what} |" for arm in ARMS.values()),
        "",
    ]
    table = collect(used)
    order = list(dict.fromkeys((c.pair, c.rows, c.kept) for c in [*planned, *sorted(done)]))
    for section in order:
        if section in table:
            lines += _section(section, table[section], planned, unavailable)
    related = _related(used)
    lines += _pooled(table)
    lines += _priors(table, related)
    lines += _trials(used, table, related)
    lines += _not_run(order, table, planned, unavailable)
    return "\n".join(lines).rstrip() + "\n"


def _about(results: Sequence[Mapping[str, Any]], steps: Mapping[str, int]) -> list[str]:
    """How the numbers came about, and how to read them."""
    models, machines, revisions = (
        sorted({str(value) for value in values})
        for values in (
            (r["model"] for r in results),
            (r["environment"]["device"] for r in results),
            (r["revision"] for r in results),
        )
    )
    total = " + ".join(f"{count} {stage}" for stage, count in steps.items())
    return [
        f"{len(results)} runs of {', '.join(models) or 'no model'}, {', '.join(machines) or 'no machine'}, "
        f"code {', '.join(revisions) or 'none'} (`python -m benchmarks.transfer`; one line each in the .jsonl beside).",
        f"Every arm takes {total} steps of the same batch size (what trains nothing while it prunes recovers for as "
        f"many steps more), tunes on the same {DEV_ROWS} dev rows, and is measured on the same held-out rows of "
        f"its seed; texts are cut to {MAX_LENGTH} tokens. `rows`: labelled target rows; `kept`: part of the encoder's "
        "parameters.",
        "Values: mean over seeds, in points, with the 95 % t interval; differences are paired by seed, with the "
        "interval of their own. *Of the way*: of the mean gap from `none` to `dense-transfer`. With three seeds t is "
        "4.3: an interval that holds 0 proves nothing either way.",
    ]


def _section(
    section: Section,
    arms: Mapping[str, Mapping[int, float]],
    planned: Sequence[Cell],
    unavailable: Mapping[str, str],
) -> list[str]:
    name, rows, kept = section
    pair = PAIRS[name]
    harmful = ", a source that is not meant to help" if pair.harmful else ""
    lines = [
        f"## {name}, {rows} rows, {kept:g} kept{harmful}",
        "",
        f"| arm | seeds | {METRICS[pair.metric]} | against `none` | `teacher` against it | of the way |",
        "|---|---|---|---|---|---|",
    ]
    none, teacher, goal = (arms.get(arm, {}) for arm in ("none", "teacher", DENSE_TRANSFER))
    for arm in (DENSE, DENSE_TRANSFER, *ARMS):
        if not (values := arms.get(arm)):
            continue
        closed = None if arm in ("none", DENSE, DENSE_TRANSFER) else way_closed(values, none, goal)
        cells = (
            f"`{arm}`",
            str(len(values)),
            _show(list(values.values()), sign=False),
            "" if arm == "none" else _show(paired(values, none)),
            "" if arm == "teacher" else _show(paired(teacher, values)),
            "" if closed is None else f"{closed:.0%}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    missing = [arm for arm in ARMS if arm not in arms and arm not in unavailable]
    wanted = {c.arm for c in planned if (c.pair, c.rows, c.kept) == section}
    lines += ["", *([f"Not run: {', '.join(f'`{a}`' for a in missing if a in wanted)}."] * bool(wanted & {*missing}))]
    return [*lines, ""]


def _pooled(table: Mapping[Section, Mapping[str, Values]]) -> list[str]:
    """What the mean of the tokens gives, where the first token alone would be read; seeds that both have."""
    lines = []
    for (pair, rows, kept), arms in table.items():
        for name in READ_FIRST:
            first, mean_of = arms.get(name, {}), arms.get(f"{name}-mean", {})
            if seeds := sorted(first.keys() & mean_of.keys()):
                shown = (_show([values[seed] for seed in seeds], sign=False) for values in (first, mean_of))
                cells = (f"{pair}, {rows} rows, {kept:g} kept", f"`{name}`", str(len(seeds)), *shown)
                lines.append(f"| {' | '.join([*cells, _show(paired(mean_of, first))])} |")
    head = ["| pair | arm | seeds | first token | mean of the tokens | difference |", "|---|---|---|---|---|---|"]
    return ["## Where the answer is read", "", *head, *lines, ""] if lines else []


def _related(results: Iterable[Mapping[str, Any]]) -> dict[Section, dict[int, float]]:
    """How far `auto` found the source's labels to go with the target's, by seed."""
    found: dict[Section, dict[int, float]] = defaultdict(dict)
    for result in results:
        cell = cell_of(result)
        if cell.arm == "auto":
            [value] = result["transfer"]["auto"].get("related") or [None]
            if value is not None:
                found[cell.pair, cell.rows, cell.kept][cell.seed] = value
    return dict(sorted(found.items()))


def _priors(table: Mapping[Section, Mapping[str, Values]], related: Mapping[Section, Mapping[int, float]]) -> list[str]:
    """The lead over `none` of what `auto` chooses among.

    PRIORS in core/pruning/trials/policy.py are of the pairs not UNSEEN.
    """
    strange = {pair for (pair, _, _), values in related.items() if mean(values.values()) < WELL_RELATED}
    lines = []
    for arm in ("teacher-taught-plain", "sequential", "teacher"):
        labels = arm != "teacher-taught-plain"
        leads = [
            mean(paired(arms[arm], arms["none"]))
            for (pair, _, _), arms in table.items()
            if not (PAIRS[pair].harmful or (labels and pair in strange))
            and arms.get(arm, {}).keys() & arms.get("none", {}).keys()
        ]
        if len(leads) > 1:
            lines.append(f"| `{arm}` | {len(leads)} | {mean(leads):+.1f} | {stdev(leads):.1f} |")
    if not lines:
        return []
    head = [
        "## Lead over `none`, over all sections",
        "",
        f"Where labels are used, without the pairs whose labels are not well related (under {WELL_RELATED}, below).",
        "",
        "| arm | sections | mean | deviation |",
        "|---|---|---|---|",
    ]
    return [*head, *lines, ""]


def _trials(
    results: Iterable[Mapping[str, Any]],
    table: Mapping[Section, Mapping[str, Values]],
    related: Mapping[Section, Mapping[int, float]],
) -> list[str]:
    """What `auto` saw, beside what the same choice did as a job of its own, on the same rows and seed."""
    found: list[tuple[float, float, float]] = []  # the lead of a trial, of the job, and the error that was expected
    for result in results:
        cell = cell_of(result)
        if cell.arm != "auto":
            continue
        arms = table[cell.pair, cell.rows, cell.kept]
        for trial in result["transfer"]["auto"]["trials"]:
            job = arms.get(AS_ARM[trial["choice"]], {}).get(cell.seed)
            if trial["choice"] != "none" and job is not None and cell.seed in arms.get("none", {}):
                found.append((100 * trial["seen"], job - arms["none"][cell.seed], 100 * trial["error"]))
    lines = []
    if related:
        lines += ["| pair | rows | kept | how far labels go together (0 to 1), by seed |", "|---|---|---|---|"]
        for (pair, rows, kept), values in related.items():
            lines.append(f"| {pair} | {rows} | {kept:g} | {', '.join(f'{values[s]:.2f}' for s in sorted(values))} |")
        lines += [""]
    seen, did, expected = zip(*found, strict=True) if found else ((), (), ())
    if len(set(seen)) > 1 and len(set(did)) > 1:
        off = sqrt(mean((s - d) ** 2 for s, d in zip(seen, did, strict=True)))
        lines += [
            f"{len(found)} trials are also arms above. Their lead over `none` is off that of the job by {off:.1f} "
            f"points (root mean square; expected: {sqrt(mean(e**2 for e in expected)):.1f}), and both correlate by "
            f"{correlation(seen, did):+.2f}.",
            "",
        ]
    return ["## What `auto` saw", "", *lines] if lines else []


def _show(values: Sequence[float], *, sign: bool = True) -> str:
    if not values:
        return ""
    centre, half = interval(values)
    shown = f"{centre:+.1f}" if sign else f"{centre:.1f}"
    return shown + (" (one seed)" if half is None else f" ± {half:.1f}")


def _not_run(
    order: Sequence[Section],
    table: Mapping[Section, Mapping[str, object]],
    planned: Sequence[Cell],
    unavailable: Mapping[str, str],
) -> list[str]:
    wanted = {(c.pair, c.rows, c.kept) for c in planned}
    whole = [f"{p}, {rows} rows, {kept:g} kept" for p, rows, kept in order if (p, rows, kept) in wanted - table.keys()]
    lines = ["## Not run", ""]
    lines += [f"- {section}" for section in whole]
    lines += [f"- `{arm}` anywhere: {why}" for arm, why in unavailable.items()]
    return lines if len(lines) > 2 else []


def write(path: Path, text: str) -> None:
    """The file appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
