"""What is run: a cell is one pruning job, by pair, target rows, part kept, arm and seed; the plan is their order.

Imports nothing of torch, so that planning and the table are quick.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import core
from benchmarks.transfer.data import MAX_LENGTH, PAIRS
from core.spec.job import JobSpec, Pooling
from core.spec.methods import METHODS

DEV_ROWS = 100
STEPS: Mapping[str, int] = {"teach": 200, "prune": 300, "recover": 600}  # of every arm
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Arm:
    """A way to prune: `transfer` of the job, or a control's structure with the recovery of that transfer."""

    name: str
    transfer: Mapping[str, Any]
    what: str
    control: str | None = None
    method: str = "fisher"
    pattern: str | None = None  # of zeros, where the part kept is one of single weights
    recover: float = 1.0  # of the steps after teaching that a method which trains nothing takes to recover
    own: bool = False  # the target's rows that are in no split, without labels
    source: bool = True
    pooling: Pooling = "first"


TEACHER = {"coupling": "teacher"}
ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("none", {"coupling": "none"}, "the target's rows alone"),
        Arm("sequential", {"coupling": "sequential"}, "the source first, then the target, in every stage"),
        Arm("joint", {"coupling": "joint"}, "mixed batches, one set of masks"),
        Arm("joint-learned", {"coupling": "joint", "weighting": "learned"}, "joint, the source's weight learned"),
        Arm("tied", {"coupling": "tied"}, "masks of their own, pulled together", method="l0"),
        Arm("teacher", TEACHER, "source text labelled by the target's teacher"),
        Arm("own", TEACHER, "the target's own unlabelled text, no source", own=True, source=False),
        Arm("own-source", TEACHER, "own text, and the source as in `teacher`", own=True),
        Arm("auto", {"coupling": "auto"}, "chosen by short trials on the target's train and dev rows"),
        Arm("teacher-taught-plain", {**TEACHER, "stages": ["prune", "recover"]}, "teacher, but taught without source"),
        Arm("teacher-recover-only", {**TEACHER, "stages": ["recover"]}, "teacher, in the last stage alone"),
        Arm("teacher-teach-only", {**TEACHER, "stages": ["teach"]}, "the source enters the dense model alone"),
        Arm("sequential-masks", {"coupling": "sequential", "share": ["masks"]}, "the structure from the source alone"),
        Arm("none-l0", {"coupling": "none"}, "`none`, its masks learned", method="l0"),
        Arm("teacher-l0", TEACHER, "`teacher`, its masks learned", method="l0"),
        Arm("random", TEACHER, "control: random units, trained as `teacher`", method="random"),
        Arm("small-dense", TEACHER, "control: a small regular model out of the teacher's lower layers", "small-dense"),
        Arm("cofi", {"coupling": "none"}, "peer: CoFi's losses (layer-wise distillation), no transfer", "cofi", "l0"),
        Arm("magnitude", TEACHER, "peer: torch-pruning's group magnitudes, trained as `teacher`", "magnitude"),
    )
}
READ_FIRST = ("none", "own", "teacher", "own-source")
ARMS = ARMS | {
    f"{name}-mean": replace(
        ARMS[name], name=f"{name}-mean", what=f"`{name}`, read from the mean of the tokens", pooling="mean"
    )
    for name in READ_FIRST
}
AS_ARM: Mapping[str, str] = {  # what `auto` chooses -> the arm that does the same
    "none": "none",
    "teacher in prune, recover": "teacher-taught-plain",
    "sequential in teach, prune, recover": "sequential",
    "teacher in teach, prune, recover": "teacher",
}

SHORT = 0.15  # with scoring a fifth of the time that what trains masks takes, or less
ZEROS = {"zeros": "unstructured", "2:4": "2:4"}
METHOD_ARMS: Mapping[str, Arm] = {  # of benchmarks/methods
    arm.name: arm
    for arm in (
        *(
            Arm(f"{name}-{method}", transfer, f"`{method}`, transfer `{name}`", method=method)
            for method in ("fisher", "l0", "pdp", "magnitude", "random")
            for name, transfer in (("none", {"coupling": "none"}), ("teacher", TEACHER))
        ),
        Arm("none-fisher-alone", {"coupling": "none"}, "`fisher`, no recovery: least squares", recover=0),
        Arm(
            "teacher-fisher-alone",
            {**TEACHER, "stages": ["teach", "prune"]},
            "`fisher`, no recovery, the source in teaching and in the scores",
            recover=0,
        ),
        *(
            Arm(f"{name}-fisher-short", transfer, f"`fisher`, short recovery, transfer `{name}`", recover=SHORT)
            for name, transfer in (("none", {"coupling": "none"}), ("teacher", TEACHER))
        ),
        *(
            Arm(f"{kind}-{name}", {"coupling": "none"}, f"{pattern}, {what}", control, method, pattern)
            for kind, pattern in ZEROS.items()
            for name, control, method, what in (
                ("pdp", None, "pdp", "`pdp`"),
                ("gradual", "gradual", "pdp", "gradual magnitude: the same ramp under hard masks"),
                ("once", None, "magnitude", "magnitude at once"),
            )
        ),
        Arm(
            "zeros-torch",
            {"coupling": "none"},
            "torch.nn.utils.prune.global_unstructured",
            "torch",
            "magnitude",
            "unstructured",
        ),
    )
}


@dataclass(frozen=True, order=True)
class Cell:
    """One run."""

    pair: str
    rows: int
    kept: float
    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.pair}, {self.rows} rows, {self.kept:g} kept, {self.arm}, seed {self.seed}"


@dataclass(frozen=True)
class Choice:
    """Which cells are asked for; an empty part asks for all."""

    pairs: Sequence[str] = ()
    rows: Sequence[int] = ()
    kept: Sequence[float] = ()
    arms: Sequence[str] = ()
    seeds: Sequence[int] = ()

    def __contains__(self, cell: object) -> bool:
        if not isinstance(cell, Cell):
            return False
        parts = (self.pairs, self.rows, self.kept, self.arms, self.seeds)
        return all(not wanted or value in wanted for wanted, value in zip(parts, astuple(cell), strict=True))


@dataclass(frozen=True)
class Block:
    """Cells that are run together: a seed of every arm before the next seed, so that what stands is paired."""

    pairs: Sequence[str]
    rows: int
    kept: float
    arms: Sequence[str]
    seeds: Sequence[int] = field(default=(0, 1, 2))

    def cells(self) -> Iterator[Cell]:
        """In order."""
        for seed in self.seeds:
            for pair in self.pairs:
                for arm in self.arms:
                    yield Cell(pair, self.rows, self.kept, arm, seed)


MAIN, FURTHER = ("movies->yelp", "mail->sms"), ("movies->products", "news->reuters")
HARMFUL = ("shuffled->yelp", "mail->yelp")
UNSEEN = ("products->yelp", "news->yelp", "movies->sms")  # nothing of `auto` was set after a look at these
WITH_TEXT_LEFT = ("movies->products, text left", "mail->sms", "news->reuters")  # in none of the splits
READ_MEAN = tuple(f"{name}-mean" for name in READ_FIRST)
COUPLINGS = ("none", "sequential", "joint", "tied", "teacher", "auto")
CONTROLS = ("random", "small-dense", "magnitude", "cofi", "none-l0", "teacher-l0")
VARIANTS = ("joint-learned", "teacher-taught-plain", "teacher-recover-only", "teacher-teach-only", "sequential-masks")
ORDER = (
    Block(MAIN, 100, 0.05, ("none", "teacher", "random")),  # does transfer help, and is it the structure?
    Block(MAIN, 100, 0.10, ("none", "teacher")),
    Block(HARMFUL, 100, 0.05, ("auto", "teacher")),  # is a bad source seen?
    Block(MAIN, 100, 0.05, COUPLINGS),
    Block(MAIN, 100, 0.05, CONTROLS),
    Block(MAIN, 100, 0.10, COUPLINGS + CONTROLS),
    Block(FURTHER[:1], 100, 0.05, ("none", "teacher", "auto", "random")),
    Block(UNSEEN, 100, 0.05, ("auto",)),
    Block(UNSEEN[:1], 100, 0.05, ("sequential", "teacher")),
    Block(MAIN, 300, 0.05, ("none", "teacher", "auto", "random")),
    Block(MAIN, 300, 0.10, ("none", "teacher", "auto")),
    Block(MAIN[:1], 100, 0.05, VARIANTS),  # what, and when
    Block(MAIN, 100, 0.05, ("none", "teacher", "random", "auto"), (3, 4)),
    Block(FURTHER[1:], 100, 0.05, ("none", "teacher", "auto", "random")),
    Block(FURTHER, 100, 0.10, ("none", "teacher", "auto")),
    Block(MAIN, 300, 0.05, COUPLINGS + CONTROLS),
    Block(MAIN, 300, 0.10, COUPLINGS + CONTROLS),
    Block(HARMFUL, 300, 0.05, ("auto", "teacher")),
    Block(FURTHER, 100, 0.05, COUPLINGS + CONTROLS),
    Block(WITH_TEXT_LEFT, 100, 0.05, READ_FIRST + READ_MEAN),
    Block(MAIN[:1], 100, 0.05, ("none-mean", "teacher-mean")),
)


WHOLE, SINGLE, SEMI = (
    [name for name, arm in METHOD_ARMS.items() if arm.pattern == pattern] for pattern in (None, "unstructured", "2:4")
)
METHOD_ORDER = (
    *(Block(MAIN, 300, kept, WHOLE) for kept in (0.1, 0.05, 0.2, 0.4)),
    Block(MAIN, 300, 0.1, SINGLE),
    Block(MAIN, 300, 0.5, SEMI),
)
EVERY = {**ARMS, **METHOD_ARMS}


def plan(choice: Choice, order: Sequence[Block] = ORDER) -> list[Cell]:
    """The cells asked for, what decides most first. What is in no block follows at the end where it is named."""
    cells = dict.fromkeys(cell for block in order for cell in block.cells() if cell in choice)
    if choice.pairs and choice.rows and choice.kept and choice.arms and choice.seeds:
        for rows in choice.rows:
            for kept in choice.kept:
                block = Block(choice.pairs, rows, kept, choice.arms, choice.seeds)
                cells |= dict.fromkeys(block.cells())
    return list(cells)


def steps_of(arm: Arm, steps: Mapping[str, int]) -> dict[str, int]:
    """As many for all: an arm that trains nothing while it prunes recovers for longer."""
    if METHODS[arm.method].trains:
        return dict(steps)
    return {"teach": steps["teach"], "prune": 0, "recover": round(arm.recover * (steps["prune"] + steps["recover"]))}


def dataset_id(table: str) -> str:
    """The name that a job knows a table by."""
    return "ds_" + hashlib.sha256(table.encode()).hexdigest()[:32]


def spec_of(cell: Cell, steps: Mapping[str, int], model: str = "all-minilm-l6-v2") -> JobSpec:
    """The job; raises ValidationError for an arm that it does not know."""
    arm, pair = EVERY[cell.arm], PAIRS[cell.pair]
    sources = [{"data": {"dataset": dataset_id(pair.source)}, "label": "label"}]
    target = {"dataset": dataset_id(pair.target)}
    unlabelled = {"data": target} if arm.own else None
    split: dict[str, int] = {"train": cell.rows, "dev": DEV_ROWS}
    if pair.test is not None:
        split["test"] = pair.test
    own = steps_of(arm, steps)
    return JobSpec.model_validate(
        {
            "model": model,
            "task": {"data": target, "split": split, "metric": pair.metric, "unlabelled": unlabelled},
            "sources": [] if arm.transfer["coupling"] == "none" or not arm.source else sources,
            "budget": {"sparsity": 1 - cell.kept, "pattern": arm.pattern} if arm.pattern else {"params": cell.kept},
            "transfer": dict(arm.transfer),
            "method": {"name": arm.method},
            "pooling": arm.pooling,
            "train": {
                "steps": {stage: count for stage, count in own.items() if count or stage == "recover"},
                "max_length": MAX_LENGTH,
                "seed": cell.seed,
                "contrastive": False,  # as in every line that stands
            },
        }
    )


def refused(cell: Cell) -> str | None:
    """Why this version of the product does not offer the cell's arm, or None."""
    try:
        spec_of(cell, STEPS)
    except ValidationError as error:
        return "; ".join(problem["msg"] for problem in error.errors())
    return None


def teacher_key(cell: Cell, steps: Mapping[str, int], model: str = "all-minilm-l6-v2") -> str:
    """Names the dense fine-tuned teacher of a cell: cells of one key teach it from the same rows in the same way.

    The budget does not enter the first stage. `sequential` and `teacher` teach alike, and so do `joint` and `tied`
    (docs/methods/transfer.md); what else there is shares a teacher with itself alone. `auto` goes on as the arm that
    it chooses.
    """
    pair, arm = PAIRS[cell.pair], EVERY[cell.arm]
    transfer = arm.transfer
    coupling, source = str(transfer["coupling"]), pair.source
    weights = "weights" in transfer.get("share", ["weights"])
    if coupling == "none" or not arm.source or not weights or "teach" not in transfer.get("stages", ["teach"]):
        how, source = "plain", ""
    elif coupling in ("sequential", "teacher"):
        how = "source first"
    elif coupling in ("joint", "tied") and "weighting" not in transfer:
        how = "mixed"
    else:
        how = f"{cell.arm} {cell.kept:g}"
    code = code_of(Path(core.__file__).parent)
    facts = [
        model,
        pair.target,
        source,
        pair.metric,
        MAX_LENGTH,
        pair.test,
        cell.rows,
        cell.seed,
        how,
        steps,
        arm.pooling,
    ]
    return hashlib.sha256(json.dumps([facts, code], sort_keys=True).encode()).hexdigest()[:20]


@cache
def code_of(package: Path) -> str:
    """Of all its Python: a teacher taught by other code is taught anew, wherever in it teaching may lie."""
    files = sorted(package.rglob("*.py"))
    if not files:
        raise FileNotFoundError(f"{package} holds no Python")
    digests = [(file.relative_to(package).as_posix(), hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def revision() -> str:
    """Commit of the code; '+' when the code has uncommitted changes."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# --- results, one JSON object a line -------------------------------------------------------------------------


def read_results(path: Path) -> list[dict[str, Any]]:
    """Every finished run. A last line that was cut off is no run; a bad line elsewhere raises ValueError."""
    if not path.exists():
        return []
    *whole, _rest = path.read_text(encoding="utf-8").split("\n")  # the last has no end: it was cut off
    try:
        return [json.loads(line) for line in whole if line.strip()]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} holds a line that is not JSON: {error.doc[:80]!r}; remove it") from error


def append_result(path: Path, result: Mapping[str, Any]) -> None:
    """Add a line; a line that was cut off before is taken away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if text and not text.endswith("\n"):
        path.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
    with path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(result, separators=(",", ":")) + "\n")


def cell_of(result: Mapping[str, Any]) -> Cell:
    """The cell that a line is of."""
    return Cell(**result["cell"])


def finished(results: Sequence[Mapping[str, Any]], steps: Mapping[str, int]) -> set[Cell]:
    """Cells that stand, run with these steps."""
    return {cell_of(r) for r in results if r["steps"] == steps_of(EVERY[r["cell"]["arm"]], steps)}


def cell_json(cell: Cell) -> dict[str, Any]:
    """As a line holds it."""
    return asdict(cell)
