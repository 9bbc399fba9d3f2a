"""Run what is left of the benchmark: `python -m benchmarks.peers --help`.

Each contender's line of results/peers.jsonl has its answers to the test rows, so that all are compared row by row;
peers.md and a picture for each number of rows beside it are made of all lines. What stands is not run again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers import others, ours
from benchmarks.peers.contender import Cell, Make
from benchmarks.peers.data import EACH, TARGETS, Given, given
from benchmarks.peers.picture import draw
from benchmarks.peers.serve import Onnx, Predict, classes, in_turn
from benchmarks.peers.table import markdown
from benchmarks.say import say
from benchmarks.transfer.cells import append_result, read_results, revision
from benchmarks.transfer.data import prepare
from cli.packages import appearing
from core.pruning.export.files import environment

RESULTS = Path(__file__).parents[1] / "results" / "peers.jsonl"
CONTENDERS: Mapping[str, Make] = {  # what decides most first
    "topwork": ours.pruned,
    "setfit": others.setfit,
    "embeddings": others.on_embeddings,
    "static": others.static,
    "layers-distilled": ours.layers,
    "layers-tuned": others.lower_layers,
    "topwork-rows": ours.rows_alone,
}


def main() -> int:
    """Run, then make the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--targets", nargs="*", default=[*TARGETS], choices=[*TARGETS])
    parser.add_argument("--contenders", nargs="*", default=[*CONTENDERS], choices=[*CONTENDERS])
    parser.add_argument(
        "--rows", nargs="*", type=int, default=[100, 1000, EACH], help=f"in all, or {EACH} of each class"
    )
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--hours", type=float, default=16.0, help="begin nothing after so long")
    parser.add_argument("--dry-run", action="store_true", help="print what is left to run")
    parser.add_argument("--table", action="store_true", help="only make the table and the picture")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    until = time.monotonic() + 3600 * asked.hours
    for cell, contender in [] if asked.table else left(asked):
        if asked.dry_run:
            print(f"{cell}: {contender}")
        elif time.monotonic() < until:
            run(cell, contender, asked.data_dir)
    if not asked.dry_run:
        lines = read_results(RESULTS)
        RESULTS.with_suffix(".md").write_text(markdown(lines), encoding="utf-8")
        for rows in {line["rows"] for line in lines}:
            draw(lines, rows, RESULTS.with_name(f"peers-{rows}.svg"))
    return 0


def left(asked: argparse.Namespace) -> Iterator[tuple[Cell, str]]:
    """Cells and contenders that have no line."""
    done = {(line["target"], line["rows"], line["seed"], line["contender"]) for line in read_results(RESULTS)}
    base = asked.data_dir / "models" / "all-minilm-l6-v2"
    for seed in asked.seeds:
        for rows in asked.rows:
            for contender in asked.contenders:
                for target in (TARGETS[name] for name in asked.targets):
                    if rows in target.rows and (target.table, rows, seed, contender) not in done:
                        yield Cell(target, rows, seed, base), contender


def run(cell: Cell, contender: str, data_dir: Path) -> None:
    """Add its line."""
    say(f"{cell}: {contender} ...")
    tables = prepare(data_dir / "tables", [cell.target.table], say)
    rows = given(tables[cell.target.table], cell.rows, cell.seed)
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        try:
            found = list(CONTENDERS[contender](cell, rows, Path(scratch)))
        except ImportError as error:
            return say(f"not run: {error}; `make bench-peers` installs it")
        dense = dense_of(cell, data_dir / "peers" / "dense")
        made = [answers(one, rows, dense) for one in found]
    facts = {"target": cell.target.table, "rows": cell.rows, "seed": cell.seed, "contender": contender}
    facts |= {"labelled": len(rows.labelled), "texts": len(rows.texts), "labels": rows.labels}
    facts |= {"truth": indices([label for _, label in rows.test], rows.labels), "made": made}
    append_result(RESULTS, facts | {"revision": revision(), "environment": environment().model_dump(mode="json")})
    say(", ".join(f"{one['name']} {one['right']:.1%}" for one in made))


def dense_of(cell: Cell, folder: Path) -> Predict:
    """The base in ONNX Runtime, whose milliseconds all are held against; its files stay in `folder`."""
    if not folder.exists():
        with appearing(folder) as fresh:
            shutil.copytree(cell.base, fresh, dirs_exist_ok=True)
            others.files_of(fresh, ["a", "b"], "single_label_classification")
    return classes(Onnx(folder / ours.FILES[""], folder / "tokenizer.json"), ["a", "b"])


def answers(one: Any, rows: Given, dense: Predict) -> dict[str, Any]:
    """What it says of the test rows, and how fast."""
    texts = [text for text, _ in rows.test]
    said = one.predict(texts)
    right = sum(label == true for label, (_, true) in zip(said, rows.test, strict=True)) / len(texts)
    ms = {batch: {"own": own, "dense": base} for batch, (own, base) in in_turn(one.predict, dense, texts).items()}
    return {
        "name": one.name,
        "right": right,
        "said": indices(said, rows.labels),
        "ms": ms,
        "bytes": one.bytes,
        "seconds": round(one.seconds, 1),
    }


def indices(labels: Any, known: list[str]) -> str:
    """Labels as one letter each, which keeps lines short."""
    return "".join(chr(ord("a") + known.index(label)) for label in labels)


if __name__ == "__main__":
    sys.exit(main())
