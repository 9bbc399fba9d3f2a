"""How long a job takes, and how much memory, by arithmetic on what it computes. No torch.

A job's work is counted in multiply-accumulates: of its training steps, and of reading the test rows. Jobs that have
ended say how long a unit of work took here, and what there was beside (starting, exporting).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.domains.cost import Costs
from core.domains.structure import ATTENTION, FFN
from core.domains.transformer.families import Architecture
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from core.spec.methods import METHODS
from core.spec.task import VECTORS

SMALL = 0.15  # part of the encoder up to which recovery learns faster than teaching, and for longer (docs/log.md)

TRAIN = 3  # a training step is a forward pass, and twice that backward
MEASURED = 2  # forward passes over the test rows: dense and pruned, and the pruned one again in a fresh process

# Without jobs to go by: one thread, and what `python -m benchmarks.estimate` printed; a range, since machines differ.
SECONDS_PER_MAC = 3e-11
# Of image models: a multiply-accumulate of theirs, and a number that a convolution or linear layer gives, which is
# normed, activated, and read by depthwise convolutions; fitted to what `python -m benchmarks.pace` measured.
IMAGE_SECONDS = {"mac": 2e-11, "number": 3.8e-9}
START_S = (10.0, 60.0)
BASE_BYTES = 400e6  # a process that has loaded torch and transformers, and trains nothing
PROBE_S = (20.0, 150.0)  # of each condition that a probe measures: 26 s eager, 93 s in ONNX Runtime, busy (docs/log.md)
SPREAD = 1.25  # what the next job may differ by from all that were seen

FLOAT = 4  # bytes
COUNTED = ("params", "macs", "bytes")


def training_steps(spec: JobSpec, train_rows: int, left: float, *, nested: bool = False) -> dict[str, int]:
    """Optimiser steps of each stage, of which those asked for go before the defaults.

    Defaults: enough for a hundred rows; of many, three epochs of teaching, six each of pruning and recovery. A method
    that trains nothing while it prunes recovers for both, or a third of that under a counted budget that leaves more
    than `SMALL` of the encoder, which more steps do not make better (docs/log.md), and not at all where nothing goes. A
    size that is cut out of a larger one (`nested`) takes half of that. A model that gives vectors is its own teacher as
    it is.
    """
    epochs3 = 3 * train_rows // spec.train.batch_size
    defaults = {"teach": max(200, epochs3), "prune": max(300, 2 * epochs3), "recover": max(600, 2 * epochs3)}
    if not METHODS[spec.method.name].trains:
        mild = left > SMALL and spec.budget.kind in COUNTED
        both = (defaults["prune"] + defaults["recover"]) // (3 if mild else 1) // (2 if nested else 1)
        defaults |= {"prune": 0, "recover": 0 if left >= 1 and spec.budget.kind in COUNTED else both}
    asked = {stage: getattr(spec.train.steps, stage) for stage in defaults}
    if spec.task.problem in VECTORS:
        defaults["teach"] = 0
    return {stage: count if asked[stage] is None else asked[stage] for stage, count in defaults.items()}


def part_left(spec: JobSpec, costs: Costs) -> float:
    """How much of the encoder about stays; of a latency in milliseconds, at most: what it takes is not known yet."""
    if spec.budget.timed:
        return 1 / (spec.budget.speedup or 1)
    try:
        cost, limit = costs.limit(spec.budget, spec.export.first_layout, spec.hidden_size)
    except SpecError:  # out of reach as yet: a vocabulary that is still to be trimmed leaves more for the encoder
        return 0.0
    if spec.hidden_size == "trim" and spec.budget.counted == "model":  # embeddings shrink as the encoder does
        return (limit + cost.outside) / (cost.dense + cost.outside)
    return limit / max(1, cost.dense)


def prices(left: float) -> dict[str, float]:
    """Of a step of each stage, against one of the dense model with frozen embeddings, if so much of the encoder stays
    (benchmarks/results/overhead.md)."""
    return {"teach": 1.0, "prune": (1 + max(0.0, left)) / 2, "recover": max(0.2, left)}


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates of a job: what training takes, and what measuring does."""

    train: float
    measure: float


@dataclass(frozen=True)
class Sized:
    """What is trained of one size, and about which part of the encoder it keeps.

    `nested`: it is cut out of the next larger one, as that is once it is recovered.
    """

    steps: Mapping[str, int]
    left: float
    nested: bool = False
    twice: bool = False  # it is pruned and recovered in either layout

    @property
    def dense_steps(self) -> dict[str, float]:
        """Of each stage, what it takes in steps of the dense model."""
        times = {"teach": 1, "prune": 1 + self.twice, "recover": 1 + self.twice}
        return {stage: times[stage] * self.steps[stage] * price for stage, price in prices(self.left).items()}


def sized(spec: JobSpec, left: Sequence[float], train_rows: int) -> dict[str, Sized]:
    """Every size by its name, the largest first; `left` about of each, in the order of `spec.sizes`.

    Where as much is left as far as is known, fewer zeros and more time make the larger one.
    """

    def order(one: tuple[JobSpec, float]) -> tuple[float, float, float]:
        budget = one[0].budget
        return -one[1], budget.sparsity or 0.0, -(budget.latency_ms or 0.0)

    found, larger = dict[str, Sized](), None
    for size, part in sorted(zip(spec.sizes, left, strict=True), key=order):
        nested = larger is not None and cut_again(larger, size)
        steps, twice = training_steps(size, train_rows, part, nested=nested), size.export.layout == "auto"
        found[size.budget.name] = Sized(steps, part, nested, twice)
        larger = size
    return found


def cut_again(larger: JobSpec, smaller: JobSpec) -> bool:
    """Whether a size is cut out of a larger one: both are counts of one kind, of any units that are scored once."""
    one, other = larger.budget, smaller.budget
    alike = (one.kind, one.counted) == (other.kind, other.counted)
    free = smaller.export.layout == "free" and smaller.hidden_size == "keep" and not smaller.own_readers
    scored = not METHODS[smaller.method.name].trains and "weights" in smaller.transfer.share
    return alike and one.kind in COUNTED and free and scored


def work(spec: JobSpec, sizes: Sequence[Sized], row_macs: float, test_rows: int) -> Work:
    """Of all sizes, the smallest last; `row_macs`: of the dense model on a row of mean length, of each text encoded."""
    row_macs *= spec.task.encoded
    smallest = sum(sizes[-1].dense_steps.values())
    dense_steps = smallest + sum(sum(size.dense_steps.values()) - size.dense_steps["teach"] for size in sizes[:-1])
    if spec.coupling == "auto":  # its trials take about as much as what they decide on
        dense_steps += smallest
    train = TRAIN * spec.train.batch_size * row_macs * dense_steps
    passes = MEASURED + len(sizes) - 1
    return Work(train * (1 + spec.control), passes * row_macs * test_rows * (1 + spec.control))


@dataclass(frozen=True)
class Seen:
    """A job that has ended: what it computed, and the seconds of its training and of all of it."""

    work: Work
    train_s: float
    total_s: float

    def predict(self, asked: Work) -> float:
        """Seconds of another job, if it were as fast."""
        pace = self.train_s / self.work.train
        return max(0.0, self.total_s - self.train_s - pace * self.work.measure) + pace * (asked.train + asked.measure)


def probe_seconds(spec: JobSpec) -> tuple[float, float]:
    """From, to: what a job takes that only measures."""
    timed = {(one.runtime, one.batch_size, one.sequence_length) for one in spec.every_budget if one.timed}
    conditions = len(timed) or 1 + len(spec.onnx_formats)
    low, high = PROBE_S
    return conditions * low, conditions * high


def image_seconds_per_mac(macs: int, numbers: int) -> float:
    """Of an image model that gives so many `numbers` in all its layers for a picture; the fewer, the quicker."""
    return IMAGE_SECONDS["mac"] + IMAGE_SECONDS["number"] * numbers / max(1, macs)


def seconds(asked: Work, seen: Iterable[Seen], cpus: int, per_mac: float = SECONDS_PER_MAC) -> tuple[float, float]:
    """From, to: what the jobs seen would have taken; of none, from all cores put to use to one thread.

    `per_mac`: seconds of a multiply-accumulate on one thread.
    """
    found = [one.predict(asked) for one in seen if one.work.train > 0]
    if found:
        return min(found) / SPREAD, max(found) * SPREAD
    rough = per_mac * (asked.train + asked.measure)
    return START_S[0] + rough / cpus / 2, START_S[1] + 2 * rough


def image_memory_bytes(params: int, activations: int, batch_size: int, pixels: int) -> float:
    """As `memory_bytes`, of an image model: of each layer what it gives for a picture, normed and activated.

    `pixels`: of all pictures and their views, three colours of a byte each.
    """
    return FLOAT * (7 * params + 4 * batch_size * activations) + 3 * pixels


def memory_bytes(architecture: Architecture, encoder_params: int, params: int, batch_size: int, length: int) -> float:
    """The most that training holds: models (teacher, student, one being loaded or measured) and, of what is trained,
    gradients, two moments and the best so far; activations.

    `params` with the embeddings, which are not trained. Activations of one batch of the longest rows, float32: of each
    layer what a backward pass needs of the hidden states, the FFN and the attention.
    """
    a = architecture
    heads, neurons = (sum(block.size for block in a.anatomy.blocks if block.kind == kind) for kind in (ATTENTION, FFN))
    row = length * (10 * a.hidden * a.layers + 5 * heads * a.head_width + 4 * neurons) + 3 * heads * length**2
    return FLOAT * (3 * params + 4 * encoder_params + batch_size * row)
