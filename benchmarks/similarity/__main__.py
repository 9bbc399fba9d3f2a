"""Run the benchmark of embedding models, or what is left of it: `python -m benchmarks.similarity --help`.

Finished cells are skipped, so it can be stopped at any time and started again. Each run is one line of
benchmarks/results/similarity.jsonl; similarity.md beside it is made from all of them at the end, or by --table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.say import say
from benchmarks.similarity.cells import Cell, order, run_cell
from benchmarks.similarity.data import prepare
from benchmarks.similarity.peers import PEERS
from benchmarks.similarity.table import markdown
from benchmarks.transfer.cells import revision

RESULTS = Path(__file__).parents[1] / "results" / "similarity.jsonl"


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
    cells = [cell for block in options.block or order() for cell in order()[block]]
    left = [cell for cell in cells if cell not in finished()]
    if options.dry_run:
        print("\n".join(map(str, left)))
        return 0
    if not options.table:
        pairs = prepare(options.data_dir / "similarity", say)
        model = options.data_dir / "models" / "all-minilm-l6-v2"
        for cell in left:
            if time.monotonic() > until:
                break
            say(f"{cell} ...")
            try:
                if cell.arm in PEERS:
                    line = {"cell": asdict(cell), **PEERS[cell.arm](cell, model, pairs[cell.data])}
                else:
                    line = run_cell(cell, model, pairs[cell.data], revision())
            except ImportError as error:
                say(f"{cell}: not run, {error}")
                continue
            with RESULTS.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            say(f"{cell}: " + ", ".join(f"{name} {found['value']:.4f}" for name, found in line["pruned"].items()))
    RESULTS.with_suffix(".md").write_text(markdown(results()), encoding="utf-8")
    return 0


def results() -> list[dict[str, Any]]:
    """Lines of all cells that were run."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def finished() -> set[Cell]:
    """Cells that have a line."""
    return {Cell(**line["cell"]) for line in results()}


if __name__ == "__main__":
    sys.exit(main())
