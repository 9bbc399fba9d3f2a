"""Topwork's answers: one job of several sizes, and, for the lower layers of the base, the same job and recovery."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.peers.contender import Cell, Made
from benchmarks.peers.data import Given
from benchmarks.peers.serve import LENGTH, Onnx, classes
from benchmarks.similarity.cells import whole_layers
from benchmarks.transfer.cells import dataset_id
from benchmarks.unverified import nothing_seen
from core.domains.network import Network
from core.pruning.job import measure, publish
from core.pruning.job import run as job
from core.pruning.latency.files import Times
from core.pruning.latency.onnx import write_onnx_files
from core.pruning.methods import random as at_random
from core.rows.modality import Blank
from core.spec.job import ONNX_FILES, JobSpec
from core.spec.messages import Message
from core.spec.report import FamilyReport

SIZES = (0.2, 0.1, 0.05)  # of the encoder
LAYERS = (3, 2, 1)
FILES = {"": ONNX_FILES["onnx"], ", int8": ONNX_FILES["onnx-int8"]}


def pruned(cell: Cell, given: Given, folder: Path) -> Iterator[Made]:
    """The sizes, and the dense model that they were cut from; the target's texts without labels help them."""
    yield from of_job(cell, given, folder, SIZES, ["Topwork dense", *(f"Topwork {size}" for size in SIZES)])


def rows_alone(cell: Cell, given: Given, folder: Path) -> Iterator[Made]:
    """The same without these texts."""
    names = [f"Topwork, rows alone {size}" for size in ("dense", *SIZES)]
    yield from of_job(cell, given, folder, SIZES, names, texts=False)


def layers(cell: Cell, given: Given, folder: Path) -> Iterator[Made]:
    """The base's lower layers, distilled as Topwork's sizes are. Their dense model is Topwork's."""
    instead = patch.object(at_random, "prune", partial(whole_layers, spaced=False))
    shares = [count / 6 + 0.001 for count in LAYERS]
    names = [None, *(f"layers, distilled {count}" for count in LAYERS)]
    yield from of_job(cell, given, folder, shares, names, method="random", instead=instead)


def of_job(
    cell: Cell,
    given: Given,
    folder: Path,
    sizes: Sequence[float],
    names: Sequence[str | None],
    *,
    method: str = "fisher",
    texts: bool = True,
    instead: AbstractContextManager[Any] | None = None,
) -> Iterator[Made]:
    """Run it; the files that it leaves of the dense model and of each size, as far as they have a name."""
    tables = {dataset_id(part): file for part, file in given.tables(folder).items()}
    dense, began = folder / "dense", time.process_time()
    with (
        instead or nullcontext(),
        patch.object(measure, "write_and_time", partial(write, dense)),
        patch.object(measure, "latencies_ms", no_latency),
        # That a checkpoint loads in a fresh process the product's tests show.
        patch.object(publish, "verify", nothing_seen),
    ):
        spec = spec_of(cell, sizes, method, texts=texts)
        report = job.run(spec, job.ModelRef(cell.base, cell.base.name), tables, folder, heard)
    seconds = time.process_time() - began
    assert isinstance(report, FamilyReport)
    assert report.dense is not None
    labels = report.task.labels
    places = [dense, *(folder / "output" / size.name for size in report.sizes)]
    for name, place in zip(names, places, strict=True):
        for kind, file in FILES.items() if name else ():
            model = Onnx(place / file, cell.base / "tokenizer.json")
            yield Made(f"{name}{kind}", classes(model, labels), (place / file).stat().st_size, seconds)


def spec_of(cell: Cell, sizes: Sequence[float], method: str, *, texts: bool) -> JobSpec:
    """The job, as a user would post it."""
    parts = {part: {"dataset": dataset_id(part)} for part in ("train", "dev", "test", "texts")}
    unlabelled = {"data": parts.pop("texts")}
    return JobSpec.model_validate(
        {
            "model": cell.base.name,
            "task": {"data": parts, **({"unlabelled": unlabelled} if texts else {})},
            "budgets": [{"params": size} for size in sizes],
            "method": {"name": method},
            "export": {"formats": [*ONNX_FILES]},
            "train": {"seed": cell.seed, "max_length": LENGTH},
        }
    )


def write(
    kept: Path,
    dense: Network,
    cut: Mapping[Path, Network],
    formats: Collection[str],
    blank: Blank,
    _length: int,
    _alive: Callable[[], None],
) -> tuple[Times, dict[Path, Times]]:
    """In place of `write_and_time`: the dense model's files stay, in `kept`, and nothing is timed."""
    for folder, network in {kept: dense, **cut}.items():
        folder.mkdir(parents=True, exist_ok=True)
        write_onnx_files(network.cpu().assembled(), blank, folder, formats)
    return {}, {folder: {} for folder in cut}


def no_latency(models: Mapping[str, Any], *_args: Any, **_options: Any) -> dict[str, dict[str, float]]:
    """In place of `latencies_ms`."""
    return {name: {"1": 1.0, "32": 1.0} for name in models}


def heard(_message: Message) -> None:
    """Nobody listens."""
