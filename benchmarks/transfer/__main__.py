"""Run the benchmark, or what is left of it: `python -m benchmarks.transfer --help`.

Finished cells are skipped, so it can be stopped at any time and started again. Each run is one line of
benchmarks/results/transfer.jsonl (or methods.jsonl); transfer.md beside it is made from all of them at the end, or by
--table.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.say import say
from benchmarks.transfer import table
from benchmarks.transfer.cells import (
    ARMS,
    ORDER,
    STEPS,
    Arm,
    Block,
    Cell,
    Choice,
    append_result,
    finished,
    plan,
    read_results,
    refused,
    revision,
    teacher_key,
)
from benchmarks.transfer.data import PAIRS, prepare
from cli.packages import FetchError

RESULTS = Path(__file__).parents[1] / "results"
# One thread a process, and none that spins: two processes side by side then do twice the work of one.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


@dataclass(frozen=True)
class Bench:
    """What is run, in which order, and how it is shown."""

    name: str
    arms: Mapping[str, Arm]
    order: Sequence[Block]
    markdown: Callable[..., str]
    picture: Callable[[Sequence[Mapping[str, Any]], Mapping[str, int], Path], None] | None = None


TRANSFER = Bench("transfer", ARMS, ORDER, table.markdown)


def main(arguments: Sequence[str] | None = None, bench: Bench = TRANSFER) -> int:
    """Exit code: 0 unless a run failed."""
    options = parser(bench).parse_args(arguments)
    steps = dict(zip(STEPS, options.steps, strict=True)) if options.steps else dict(STEPS)
    choice = Choice(options.pair, options.rows, options.kept, options.arm, options.seeds)
    unavailable = why_unavailable(bench)
    failures = 0
    if not options.table:
        pending = still_to_run(plan(choice, bench.order), read_results(options.results), unavailable, steps, say)
        if options.dry_run:
            print("\n".join(map(str, pending)))
            return 0
        try:
            failures = run_all(pending, options, steps)
        except (FetchError, FileNotFoundError) as error:
            say(str(error))
            return 1
    results = read_results(options.results)
    text = bench.markdown(results, plan(Choice(), bench.order), unavailable, steps)
    table.write(options.results.with_suffix(".md"), text)
    if bench.picture is not None:
        bench.picture(results, steps, options.results.with_suffix(".svg"))
    say(f"{options.results.with_suffix('.md')} written")
    return 1 if failures else 0


def parser(bench: Bench) -> argparse.ArgumentParser:
    """The options."""
    new = argparse.ArgumentParser(prog=f"python -m benchmarks.{bench.name}", description=__doc__)
    new.add_argument("--pair", nargs="+", choices=list(PAIRS), default=[])
    new.add_argument("--arm", nargs="+", choices=list(bench.arms), default=[])
    new.add_argument("--rows", nargs="+", type=int, default=[])
    new.add_argument("--kept", nargs="+", type=float, default=[], help="part of the encoder's parameters")
    new.add_argument("--seeds", nargs="+", type=int, default=[])
    new.add_argument("--workers", type=int, default=1, help="processes side by side, one thread each")
    new.add_argument("--budget-minutes", type=float, default=None, help="start no run after this time")
    new.add_argument("--table", action="store_true", help="only write the table")
    new.add_argument("--dry-run", action="store_true", help="only list what would be run, in order")
    new.add_argument("--steps", nargs=3, type=int, metavar=("TEACH", "PRUNE", "RECOVER"), help="not those of the table")
    new.add_argument("--data", type=Path, default=Path("data/benchmarks"), help="tables and teachers are kept here")
    new.add_argument("--model", type=Path, default=Path("data/models/all-minilm-l6-v2"))
    new.add_argument("--results", type=Path, default=RESULTS / f"{bench.name}.jsonl")
    return new


def why_unavailable(bench: Bench) -> dict[str, str]:
    """Arms that cannot be run here: arm -> reason."""
    reasons = {n: refused(Cell(next(iter(PAIRS)), 100, 0.5, n, 0)) for n in bench.arms}
    if "magnitude" in bench.arms and find_spec("torch_pruning") is None:
        reasons["magnitude"] = "torch-pruning is not installed (pip install --no-deps torch-pruning==1.6.1)"
    return {name: why for name, why in reasons.items() if why}


def still_to_run(
    wanted: Sequence[Cell],
    results: Sequence[Mapping[str, Any]],
    unavailable: Mapping[str, str],
    steps: Mapping[str, int],
    say: Callable[[str], None],
) -> list[Cell]:
    """The cells that do not stand yet and can be run."""
    done = finished(results, steps)
    for arm in dict.fromkeys(cell.arm for cell in wanted if cell.arm in unavailable):
        say(f"{arm}: left out: {unavailable[arm]}")
    pending = [cell for cell in wanted if cell not in done and cell.arm not in unavailable]
    say(f"{len(wanted)} cells asked for, {len(done & {*wanted})} stand, {len(pending)} to run")
    return pending


def run_all(pending: list[Cell], options: argparse.Namespace, steps: Mapping[str, int]) -> int:
    """Run the cells, in order as far as shared teachers allow; returns how many failed."""
    if not (options.model / "model.safetensors").is_file():
        raise FileNotFoundError(f"there is no model in {options.model}: run `topwork fetch-demo`, or give --model")
    pairs = [PAIRS[name] for name in dict.fromkeys(cell.pair for cell in pending)]
    tables = prepare(options.data, [table for pair in pairs for table in (pair.target, pair.source)], say)
    os.environ.update(ENVIRONMENT)
    from benchmarks.transfer.runs import run_cell, start  # loads torch

    began = time.monotonic()
    pending, running, failures = list(pending), dict[Future[dict[str, Any]], Cell](), 0
    # Read now: the workers go on with the code that they load now, whatever becomes of the files.
    name, code = options.model.name, revision()
    shared = {c: {arm: teacher_key(replace(c, arm=arm), steps, name) for arm in {**ARMS, c.arm: None}} for c in pending}
    keys = {cell: shared[cell][cell.arm] for cell in pending}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context, start) as pool:
        while pending or running:
            late = options.budget_minutes is not None and time.monotonic() - began > 60 * options.budget_minutes
            while len(running) < options.workers and not late:
                cell = next_cell(pending, running.values(), keys, options.data / "teachers")
                if cell is None:
                    break
                pending.remove(cell)
                kept = {arm: options.data / "teachers" / key for arm, key in shared[cell].items()}
                running[pool.submit(run_cell, cell, options.model, tables, kept, steps, code)] = cell
            if not running:
                say(f"time is up: {len(pending)} cells are left for another time")
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                cell = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    raise SystemExit(f"{cell}: a worker died (out of memory?); start again to go on") from None
                except Exception as error:
                    failures += 1
                    say(f"{cell}: FAILED: {type(error).__name__}: {error}")
                    continue
                append_result(options.results, result)
                say(describe(cell, result, len(pending)))
    return failures


def next_cell(
    pending: Sequence[Cell], running: Iterable[Cell], keys: Mapping[Cell, str], teachers: Path
) -> Cell | None:
    """The first whose teacher is not being taught at this moment; None if all wait for one."""
    taught_now = {keys[cell] for cell in running}
    return next(
        (c for c in pending if keys[c] not in taught_now or (teachers / keys[c] / "teach.json").exists()),
        None,
    )


def describe(cell: Cell, result: Mapping[str, Any], left: int) -> str:
    """One line about a finished run."""
    pruned, dense = (100 * result[model][result["metric"]]["value"] for model in ("pruned", "dense"))
    shared = " (teacher shared)" if result["teacher_reused"] else ""
    seconds = result["seconds"]["all"]
    return f"{cell}: {pruned:.1f}, dense {dense:.1f}; {seconds:.0f} s{shared}; {left} left"


if __name__ == "__main__":
    sys.exit(main())
