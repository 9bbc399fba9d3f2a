"""One cell: the product's own job on a set of pairs, with the structure that the arm says."""

from __future__ import annotations

import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.unverified import nothing_seen
from core.domains.structure import Structure
from core.domains.transformer.cut import cut
from core.domains.transformer.network import TransformerNetwork
from core.pruning.job import publish
from core.pruning.job import run as job
from core.pruning.methods import random as at_random
from core.pruning.scoring.fitter import Fitter
from core.pruning.training.train import History
from core.spec.job import JobSpec
from core.spec.messages import Message
from core.spec.report import Quality, Report, Result

TEST, DEV, TEXTS = 1000, 200, 6000  # rows measured on and selected on; texts without labels
LENGTH = 64  # tokens
PAIRS_ID, TEXTS_ID = ("ds_" + digit * 32 for digit in "12")
LAYERS = ("first layers", "spaced layers")
PEERS = ("dense, int8", "static (model2vec)")  # benchmarks/similarity/peers.py
SHORTER = [64, 128]  # dimensions, of the arm "ours, shorter vectors"


@dataclass(frozen=True)
class Cell:
    """What is run."""

    data: str
    arm: str
    kept: float  # of the encoder's parameters
    vocabulary: str = "keep"
    pairs: int = 100  # that belong together, to train on; 0: the documents alone
    seed: int = 0
    recover: int | None = None  # steps, where they are not the default

    def __str__(self) -> str:
        return " ".join(map(str, asdict(self).values()))


def tables(pairs: Path, cell: Cell, folder: Path) -> dict[str, Path]:
    """The pairs to learn and to be measured on, and texts of none of them, drawn by the seed."""
    columns = pq.read_table(pairs).to_pydict()
    rows = list(zip(columns["query"], columns["document"], strict=True))
    random.Random(100 + cell.seed).shuffle(rows)  # other rows than losses were chosen on (docs/log.md)
    count = TEST + DEV + max(cell.pairs, 100)
    used, rest = rows[:count], rows[count:]
    texts = [text for pair in rest for text in pair][:TEXTS]
    found = {PAIRS_ID: folder / "pairs.parquet", TEXTS_ID: folder / "texts.parquet"}
    queries, documents = zip(*used, strict=True)
    target = {"query": queries, "document": documents} if cell.pairs else {"document": documents}
    pq.write_table(pa.table(target), found[PAIRS_ID])
    pq.write_table(pa.table({"text": texts}), found[TEXTS_ID])
    return found


def spec_of(cell: Cell, model: str) -> JobSpec:
    """The job, as a user would post it."""
    return JobSpec.model_validate(
        {
            "model": model,
            "task": {
                "type": "sentence-similarity",
                "data": {"dataset": PAIRS_ID},
                "text": ["query", "document"] if cell.pairs else ["document"],
                "split": {"train": max(cell.pairs, 100), "dev": DEV, "test": TEST},
                "dimensions": SHORTER if cell.arm == "ours, shorter vectors" else [],
            },
            "sources": [{"data": {"dataset": TEXTS_ID}}],
            "budget": {"params": cell.kept},
            "vocabulary": cell.vocabulary,
            "method": {"name": "fisher" if cell.arm.startswith("ours") else "random"},
            "train": {"seed": cell.seed, "max_length": LENGTH, "steps": {"recover": cell.recover}},
        }
    )


def run_cell(cell: Cell, model: Path, pairs: Path, revision: str) -> dict[str, Any]:
    """Its line of the results."""
    began = time.monotonic()
    instead: AbstractContextManager[Any] = nullcontext()
    if cell.arm in LAYERS:
        instead = patch.object(at_random, "prune", partial(whole_layers, spaced=cell.arm == "spaced layers"))
    with tempfile.TemporaryDirectory(prefix="similarity-") as scratch:
        folder = Path(scratch)
        files = tables(pairs, cell, folder)
        # That a checkpoint loads in a fresh process the product's tests show.
        with instead, patch.object(publish, "verify", nothing_seen):
            report = job.run(spec_of(cell, model.name), job.ModelRef(model, model.name), files, folder, _unheard)
    assert isinstance(report, Report)
    results = report.results

    def metrics(test: Quality) -> dict[str, Any]:
        return {name: value.model_dump() for name, value in test.items()}

    def shorter(result: Result) -> dict[int, dict[str, Any]]:
        return {size: metrics(test) for size, test in (result.shorter or {}).items()}

    return {
        "cell": asdict(cell),
        "given": metrics(results.given.test) if results.given else None,
        "change": results.given.change["pruned"]["ndcg_at_10"].model_dump() if results.given and cell.pairs else None,
        "pruned": metrics(results.pruned.test),
        "shorter": {"dense": shorter(results.dense), "pruned": shorter(results.pruned)},
        "encoder_params": results.pruned.encoder_params,
        "fraction": report.budget.fraction,
        "bytes": {"dense": results.dense.bytes, "pruned": results.pruned.bytes},
        "speedup": results.pruned.speedup,
        "latency_ms": {"dense": results.dense.latency_ms, "pruned": results.pruned.latency_ms},
        "structure": report.structure.model_dump(),
        "steps": report.train.steps,
        "seconds": {**report.timings_s, "all": round(time.monotonic() - began, 1)},
        "environment": report.environment.model_dump(),
        "revision": revision,
    }


def whole_layers(
    network: TransformerNetwork, fitter: Fitter, _plan: Any, _dev: Any, _training: Any, *, spaced: bool
) -> tuple[Structure, History]:
    """In place of a method: as many whole layers as the limit holds, the first ones or, evenly `spaced`, of all."""
    a = network.architecture
    for count in range(a.layers, 0, -1):
        kept = {i * a.layers // count if spaced else i for i in range(count)}
        heads = [range(a.heads if i in kept else 0) for i in range(a.layers)]
        neurons = [range(a.neurons if i in kept else 0) for i in range(a.layers)]
        structure = Structure.of(heads, neurons, {*range(a.layers)} - kept)
        if fitter.cost.of(structure) <= fitter.limit:
            cut(network, structure)
            return structure, History()
    raise ValueError("the budget does not hold a single layer")


def _unheard(_message: Message) -> None:
    """Nobody listens."""


def order() -> Mapping[str, list[Cell]]:
    """What is run, what decides most first, by the question that it answers."""
    blocks: dict[str, list[Cell]] = defaultdict(list)
    for data in ("debian", "mail"):
        blocks["half of the encoder"] += [Cell(data, "ours", 0.5), Cell(data, "spaced layers", 0.5)]
        blocks["half of the encoder"] += [Cell(data, "ours", 0.5, "trim")]
        blocks["less of it"] += [Cell(data, "ours", 0.25), Cell(data, "spaced layers", 0.34)]
        blocks["less of it"] += [Cell(data, "ours", 0.1), Cell(data, "spaced layers", 0.17)]
        blocks["instead"] += [Cell(data, peer, 1.0) for peer in PEERS]
        blocks["texts alone"] += [Cell(data, arm, 0.5, pairs=0) for arm in ("ours", "spaced layers")]
        blocks["shorter vectors"] += [Cell(data, "ours, shorter vectors", 0.5)]
        blocks["longer"] += [
            Cell(data, "ours", 0.5, "trim", recover=900),
            Cell(data, "spaced layers", 0.5, recover=900),
        ]
        blocks["controls"] += [Cell(data, "random units", 0.5), Cell(data, "first layers", 0.5)]
        blocks["more pairs"] += [Cell(data, arm, 0.5, pairs=1000) for arm in ("ours", "spaced layers")]
    for block in ("half of the encoder", "less of it"):
        for seed in (1, 2):
            blocks["other seeds"] += [Cell(**{**asdict(cell), "seed": seed}) for cell in blocks[block]]
    return blocks
