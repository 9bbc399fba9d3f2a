"""What is run: a cell is one job of the product, by pair, target rows, budget, arm and seed."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.images.data import PAIRS
from benchmarks.images.groups import group_magnitude
from benchmarks.methods.peers import gradual
from benchmarks.unverified import nothing_seen
from core.pruning.job import publish
from core.pruning.job import run as job
from core.pruning.methods import Scored
from core.pruning.methods import random as at_random
from core.spec.budget import Pattern
from core.spec.job import JobSpec
from core.spec.messages import Message, Saved
from core.spec.report import Report

DEV = 100  # rows
TARGET_ID, SOURCE_ID = ("ds_" + digit * 32 for digit in "12")
TEACHER_FILES = ("teach.safetensors", "teach.json")  # the second makes the first valid
MULTIPLE = 16  # channels: what ONNX Runtime is fast at


@dataclass(frozen=True)
class Arm:
    """A way to prune: how it transfers, by which method, and what else ranks in its place."""

    what: str
    coupling: str
    method: str = "fisher"
    peer: str | None = None


ARMS: Mapping[str, Arm] = {
    "none": Arm("the target's pictures alone", "none"),
    "sequential": Arm("the source first, then the target, in every stage", "sequential"),
    "joint": Arm("mixed batches", "joint"),
    "teacher": Arm("source pictures labelled by the target's teacher", "teacher"),
    "auto": Arm("chosen by short trials on the target's train and dev rows", "auto"),
    "random": Arm("control: random channels, trained as `teacher`", "teacher", "random"),
    "torch-pruning": Arm("peer: its group magnitudes, trained as `teacher`", "teacher", "random", "torch-pruning"),
    "magnitude": Arm("our magnitudes, trained as `teacher`", "teacher", "magnitude"),
    "l0": Arm("masks learned, transfer as `teacher`", "teacher", "l0"),
    "pdp": Arm("PDP's masks, transfer as `teacher`", "teacher", "pdp"),
    "zeros by pdp": Arm("PDP: soft masks that follow the weights, the share rising", "none", "pdp"),
    "zeros by gradual magnitude": Arm("peer: the same ramp and steps under hard masks", "none", "pdp", "gradual"),
    "zeros at once": Arm("magnitude, then the same recovery", "none", "magnitude"),
}
ZEROS: Mapping[Pattern, float] = {
    "1:4": 0.75,
    "2:4": 0.5,
    "unstructured": 0.86,
    "channel": 0.5,
}  # pattern -> share of zeros


@dataclass(frozen=True)
class Cell:
    """What is run."""

    pair: str
    rows: int
    macs: float  # part of the multiply-accumulates that is kept; of 0 instead: twice as fast in ONNX Runtime
    arm: str
    seed: int
    recover: int | None = None  # steps, where they are not the default
    zeros: Pattern | None = None  # in place of MACs

    @property
    def asked(self) -> str:
        """The budget, in words."""
        if self.zeros:
            return f"{100 * ZEROS[self.zeros]:g} % zeros ({self.zeros})"
        asked = f"{100 * self.macs:g} % of the multiply-accumulates" if self.macs else "twice as fast in ONNX Runtime"
        return asked + (f", {self.recover} steps of recovery" if self.recover else "")

    def __str__(self) -> str:
        return f"{self.pair}, {self.rows} rows, {self.asked}, {self.arm}, seed {self.seed}"


def order() -> Mapping[str, list[Cell]]:
    """What is run, what decides most first, by the question that it answers: a seed of all arms, then the next."""
    blocks: dict[str, list[Cell]] = defaultdict(list)

    def add(
        block: str, pairs: Sequence[str], rows: int, macs: float, arms: Sequence[str], recover: int | None = None
    ) -> None:
        blocks[block] += [
            Cell(pair, rows, macs, arm, seed, recover) for seed in range(3) for pair in pairs for arm in arms
        ]

    emoji, *others = PAIRS
    add("does it help", [emoji], 100, 0.3, ("none", "teacher", "random", "torch-pruning", "auto", "sequential"))
    add("longer", [emoji], 100, 0.3, ("none", "teacher", "sequential"), 900)
    add("where it should not", others, 100, 0.3, ("none", "teacher", "auto"))
    add("less cut", [emoji], 100, 0.5, ("none", "teacher", "random", "torch-pruning"))
    add("twice as fast", [emoji], 100, 0.0, ("sequential", "none", "teacher"))
    add("more rows", [emoji], 300, 0.3, ("none", "teacher", "auto"))
    add("other methods", [emoji], 100, 0.3, ("magnitude", "l0", "pdp", "joint"))
    arms = [name for name in ARMS if name.startswith("zeros")]
    blocks["zeros"] = [
        Cell(emoji, 100, 1.0, arm, seed, zeros=pattern) for seed in range(3) for pattern in ZEROS for arm in arms
    ]
    return blocks


def spec_of(cell: Cell, model: str) -> JobSpec:
    """The job, as a user would post it."""
    pair, arm = PAIRS[cell.pair], ARMS[cell.arm]
    sources = [{"data": {"dataset": SOURCE_ID}, "label": "label"}]
    return JobSpec.model_validate(
        {
            "model": model,
            "task": {
                "type": "image-classification",
                "data": {"dataset": TARGET_ID},
                "split": {"train": cell.rows, "dev": DEV},
                "metric": pair.metric,
                "augment": pair.augment,
            },
            "sources": [] if arm.coupling == "none" else sources,
            "transfer": {"coupling": arm.coupling},
            "method": {"name": arm.method},
            **_budget(cell),
            "train": {"seed": cell.seed, "image_size": pair.side, "steps": {"recover": cell.recover}},
        }
    )


def _budget(cell: Cell) -> dict[str, Any]:
    if cell.zeros:
        return {"budget": {"sparsity": ZEROS[cell.zeros], "pattern": cell.zeros}}
    budget = {"macs": cell.macs} if cell.macs else {"speedup": 2.0, "runtime": "onnx"}
    return {"budget": budget, "channels": {"multiple": MULTIPLE}}


def run_cell(cell: Cell, model: Path, datasets: Mapping[str, Path], teachers: Path, revision: str) -> dict[str, Any]:
    """Its line of the results. `teachers`: where dense models are left that cells taught alike share."""
    began, pair = time.monotonic(), PAIRS[cell.pair]
    instead: AbstractContextManager[Any] = nullcontext()
    if peer := ARMS[cell.arm].peer:
        instead = gradual() if peer == "gradual" else patch.object(at_random, "prune", Scored(group_magnitude))
    files = {TARGET_ID: datasets[pair.target], SOURCE_ID: datasets[pair.source]}
    with tempfile.TemporaryDirectory(prefix="images-") as scratch:
        state = Path(scratch) / "state"
        state.mkdir()
        shared = teachers / teacher_key(cell, revision)
        reused = cell.arm != "auto" and all((shared / name).exists() for name in TEACHER_FILES)
        for name in TEACHER_FILES if reused else ():
            shutil.copy(shared / name, state / name)
        # That a checkpoint loads in a fresh process the product's tests show.
        with instead, patch.object(publish, "verify", nothing_seen):
            keep = _kept(state, shared) if cell.arm != "auto" else _unheard
            found = job.run(spec_of(cell, model.name), job.ModelRef(model, model.name), files, Path(scratch), keep)
    assert isinstance(found, Report)
    results = found.results
    return {
        "cell": asdict(cell),
        "metric": pair.metric,
        "dense": results.dense.model_dump()["test"],
        "pruned": results.pruned.model_dump()["test"],
        "baseline": results.baseline.model_dump()["test"] if results.baseline else None,
        "macs": {"dense": results.dense.macs, "pruned": results.pruned.macs},
        "bytes": {"dense": results.dense.bytes, "pruned": results.pruned.bytes},
        **found.model_dump(include={"structure", "transfer", "data", "budget"}),
        "steps": found.train.steps,
        "seconds": {**found.timings_s, "all": round(time.monotonic() - began, 1)},
        "teacher_reused": reused,
        "environment": found.environment.model_dump(),
        "revision": revision,
    }


def teacher_key(cell: Cell, revision: str) -> str:
    """Names the dense model that a cell teaches: `sequential` and `teacher` teach alike, the budget does not matter."""
    coupling = ARMS[cell.arm].coupling
    how = "source first" if coupling in ("sequential", "teacher") else coupling
    facts = (cell.pair, cell.rows, cell.seed, how, revision)
    return sha256(repr(facts).encode()).hexdigest()[:20]


def _kept(state: Path, shared: Path) -> Callable[[Message], None]:
    def hear(message: Message) -> None:
        if isinstance(message, Saved) and message.stage == "teach" and not shared.exists():
            shared.mkdir(parents=True)
            for name in TEACHER_FILES:
                shutil.copy(state / name, shared / name)

    return hear


def _unheard(_message: Message) -> None:
    """Nobody listens."""
