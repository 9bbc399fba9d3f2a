"""peers.svg: quality against speed, a panel for each target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from benchmarks.peers.data import TARGETS, told
from benchmarks.peers.table import OURS, by_target, of_rows, speed

COLUMNS = 3
# What a name begins with -> how it is drawn; lines join the sizes of one kind.
KINDS = {
    "Topwork": ("C0", "o", "-"),
    "layers, distilled": ("C1", "^", "--"),
    "layers, fine-tuned": ("C2", "v", ":"),
    "SetFit": ("C3", "s", ""),
    "logistic regression": ("C4", "D", ""),
    "model2vec": ("C5", "*", ""),
}


def draw(lines: Sequence[Mapping[str, Any]], rows: int, path: Path) -> None:
    """Write an SVG of the cells with so many labelled rows; int8 is filled, float32 is not."""
    answers = {
        name: by_target(found)
        for name, found in of_rows(lines, rows).items()
        if name.startswith(OURS) or not name.startswith("Topwork")
    }
    targets = [target for target in TARGETS if any(target in found for found in answers.values())]
    height = -(-len(targets) // COLUMNS)
    figure, panels = plt.subplots(height, COLUMNS, figsize=(4.2 * COLUMNS, 3.4 * height), squeeze=False)
    for panel, target in zip(panels.flat, targets, strict=False):
        for kind, (colour, marker, line) in KINDS.items():
            for int8 in (False, True):
                points = sorted(
                    (speed(found[target]), fmean(one.points for one in found[target]))
                    for name, found in answers.items()
                    if name.startswith(kind) and name.endswith(", int8") == int8 and target in found
                )
                if points:
                    label = kind + (", int8" if int8 else "")
                    filled = colour if int8 or kind == "model2vec" else "white"
                    how = {"color": colour, "marker": marker, "mfc": filled, "ls": line or "none", "label": label}
                    panel.plot(*zip(*points, strict=True), **how)
        panel.set(title=target, xscale="log", xlabel="times as fast as the dense base", ylabel="points")
        panel.xaxis.set_major_formatter("{x:g}x")
        panel.grid(alpha=0.3)
    for panel in list(panels.flat)[len(targets) :]:
        panel.set_visible(False)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.suptitle(f"{told(rows)}, one core, batches of 32")
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0.14 if height > 1 else 0.25, 1, 1))
    with matplotlib.rc_context({"svg.hashsalt": "topwork"}):  # the same file for the same runs
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
