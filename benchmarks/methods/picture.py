"""The Pareto picture: quality against seconds, a panel for each pair and part of the encoder kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, StrMethodFormatter

from benchmarks.methods.table import of_steps, sections
from benchmarks.transfer.cells import METHOD_ARMS, SHORT
from benchmarks.transfer.data import PAIRS
from benchmarks.transfer.table import METRICS, interval

MARKERS = {1.0: "o", SHORT: "s", 0: "D"}
COLOURS = {"fisher": "C0", "l0": "C1", "pdp": "C2", "magnitude": "C3", "random": "C7"}


def pareto(results: Sequence[Mapping[str, Any]], steps: Mapping[str, int], path: Path) -> None:
    """Write an SVG: each arm's mean over seeds with its 95 % interval (cut at the edge), and the front."""
    found = {s: arms for s, arms in sorted(sections(of_steps(results, steps)).items()) if not s[-1]}
    if not found:
        return
    pairs = list(dict.fromkeys(section[0] for section in found))
    parts = sorted({section[2] for section in found}, reverse=True)
    figure, panels = plt.subplots(
        len(pairs), len(parts), figsize=(4 * len(parts), 3.4 * len(pairs)), squeeze=False, sharey="row"
    )
    heights: dict[str, list[float]] = {pair: [] for pair in pairs}
    for (pair, _rows, kept, _), arms in found.items():
        panel = panels[pairs.index(pair)][parts.index(kept)]
        centres = []
        for name, runs in arms.items():
            arm = METHOD_ARMS[name]
            middle, half = interval([points for points, _ in runs.values()])
            seconds = mean(spent for _, spent in runs.values())
            filled = COLOURS[arm.method] if arm.transfer["coupling"] != "none" else "white"
            marker = MARKERS[arm.recover]
            panel.errorbar(seconds, middle, half or 0, color=COLOURS[arm.method], marker=marker, mfc=filled, capsize=2)
            centres.append((seconds, middle))
        front = [(s, p) for s, p in sorted(centres) if all(q < p for t, q in centres if (t, -q) < (s, -p))]
        panel.plot(*zip(*front, strict=True), color="0.8", zorder=0, drawstyle="steps-post")
        panel.set(title=f"{pair}, {kept:.0%} kept", xscale="log", ylabel=METRICS[PAIRS[pair].metric])
        heights[pair] += [middle for _, middle in centres]
    for panel in panels.flat:
        panel.set_visible(bool(panel.get_title()))  # what was not run
    for row, pair in zip(panels, pairs, strict=True):  # intervals of two seeds can be wider than all means
        row[0].set_ylim(min(heights[pair]) - 2, max(heights[pair]) + 2)
    for panel in panels.flat:
        panel.set_xlabel("seconds of one thread, prune + recover")
        panel.tick_params(labelleft=True)
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.xaxis.set_minor_formatter("")
    named = [Line2D([], [], color=colour, marker="o", ls="", label=name) for name, colour in COLOURS.items()]
    named += [Line2D([], [], color="0.4", marker="o", ls="", mfc="white", label="without transfer (filled: with)")]
    named += [
        Line2D([], [], color="0.4", marker=MARKERS[share], ls="", label=f"{what} recovery")
        for share, what in ((SHORT, "short"), (0, "no"))
    ]
    figure.legend(handles=named, loc="outside lower center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0.15, 1, 1))
    with matplotlib.rc_context({"svg.hashsalt": "topwork"}):  # the same file for the same runs
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
