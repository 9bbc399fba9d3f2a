"""Run the benchmark of image classifiers, or what is left of it: `python -m benchmarks.images --help`.

Finished cells are skipped, so it can be stopped at any time and started again. Each run is one line of
benchmarks/results/images.jsonl; images.md beside it is made from all of them at the end, or by --table.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from benchmarks.images.cells import Cell, order, run_cell
from benchmarks.images.data import PAIRS, prepare
from benchmarks.images.table import markdown
from benchmarks.say import say
from benchmarks.transfer.cells import append_result, read_results, revision
from cli.fetch_images import fetch_model

RESULTS = Path(__file__).parents[1] / "results" / "images.jsonl"


def main() -> int:
    """Run what is left, then make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--block", action="append", choices=[*order()], help="only these questions")
    parser.add_argument("--hours", type=float, default=6.0, help="begin no further cell after so long")
    parser.add_argument("--dry-run", action="store_true", help="print what is left to run")
    parser.add_argument("--table", action="store_true", help="only make the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    until = time.monotonic() + 3600 * options.hours
    done = {Cell(**line["cell"]) for line in read_results(RESULTS)}
    left = [cell for block in options.block or order() for cell in order()[block] if cell not in done]
    if options.dry_run:
        print("\n".join(map(str, left)))
        return 0
    folder = options.data_dir / "images"
    for cell in [] if options.table else left:
        if time.monotonic() > until:
            break
        say(f"{cell} ...")
        model, datasets = fetch_model(options.data_dir, say), prepare(folder, PAIRS[cell.pair], say)
        line = run_cell(cell, model, datasets, folder / "teachers", revision())
        append_result(RESULTS, line)
        say(f"{cell}: {line['pruned'][line['metric']]['value']:.3f} of {line['dense'][line['metric']]['value']:.3f}")
    RESULTS.with_suffix(".md").write_text(markdown(read_results(RESULTS)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
