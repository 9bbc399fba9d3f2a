"""Milliseconds of the structures that the benchmark of image classifiers ended with, in ONNX Runtime.

    python -m benchmarks.images.speed [MODEL_FOLDER]

Widths of each structure in images.jsonl (seed 0) are cut again and timed in turn with the dense model, batch 1 and 32,
all threads. Writes benchmarks/results/images_speed.md. Run it on a quiet machine.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.images.__main__ import RESULTS
from benchmarks.images.cells import MULTIPLE, Cell
from benchmarks.images.data import PAIRS
from benchmarks.transfer.cells import read_results
from core.domains.channels.load import load_images
from core.domains.structure import ChannelStructure
from core.machine import cpu_name
from core.pruning.latency.runtimes import Conditions
from core.pruning.latency.stopwatch import Reading, Stopwatch
from core.rows.image.processor import Images
from core.rows.modality import Blank

BATCHES = (1, 32)
HEAD = ["structure", "MACs", *(f"ms, batch {size} | dense | speed-up" for size in BATCHES)]


def main(model: Path) -> None:
    """Measure, and write the table."""
    lines = [line for line in read_results(RESULTS) if not line["cell"]["seed"] and _of_emoji(line)]
    side = PAIRS["noto->twemoji"].side
    network = load_images(model, ["a", "b"], 0, "single_label_classification", side=side, multiple=MULTIPLE)
    blank = Blank(Images.of(model, side, False), ("pixel_values",))
    threads = torch.get_num_threads()
    watches = [Stopwatch(network, blank, Conditions("onnx", "cpu", cpu_name(), threads, n, side)) for n in BATCHES]
    rows = []
    for line in lines:
        structure = as_cut(line["structure"]["channels"])
        found = [said(watch.measure(structure)) for watch in watches]
        cell, macs = Cell(**line["cell"]), line["macs"]["pruned"] / line["macs"]["dense"]
        rows.append([f"{cell.rows} rows, {cell.arm}", f"{macs:.1%}", *found])
        print(rows[-1], file=sys.stderr, flush=True)
    about = f"{(__doc__ or '').partition(chr(10))[0]}\n\n{cpu_name()}, {threads} threads, {side} pixels"
    page = f"# {about}. `python -m benchmarks.images.speed`.\n\n{_table(HEAD, rows)}"
    RESULTS.with_name("images_speed.md").write_text(page, encoding="utf-8")


def as_cut(counts: Sequence[int]) -> ChannelStructure:
    """A structure of these sizes: which units are kept does not change the time."""
    return ChannelStructure(tuple(tuple(range(count)) for count in counts))


def said(reading: Reading) -> str:
    """Milliseconds, those of the dense model in turn with it, and how many times faster that is."""
    return f"{reading.ms:.3f} | {reading.dense_ms:.3f} | {1 / reading.ratio:.2f}x"


def _of_emoji(line: Mapping[str, Any]) -> bool:
    return bool(line["cell"]["pair"] == "noto->twemoji")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    columns = " | ".join(head).count("|") + 1
    text = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([text[0], "|" + " --- |" * columns, *text[1:]]) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "data/models/mobilenet-v2"))
