"""`report.json`: what a job found. Also what the API gives as a job's `metrics`. No torch.

Fields that earlier versions did not write have defaults; what a later version adds is kept.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.spec.latency import Latency
from core.spec.task import ProblemType

Number = int | float  # a count stays one in JSON


class Part(BaseModel):
    """Base of every part: immutable."""

    model_config = ConfigDict(frozen=True, extra="allow")


def _none(value: object) -> bool:
    return value is None


class Interval(Part):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


Quality = dict[str, Interval]  # by metric


class Lead(Interval):
    """By how much the task's metric leads one answer for all rows, and what that reaches."""

    over: float


class Tested(Part):
    """Quality on the test rows: all that there is of one answer for all rows."""

    test: Quality


class Result(Tested):
    """A model as it was measured: quality, size and speed."""

    encoder_params: int
    model_params: int
    macs: int
    macs_length: int | None = Field(None, description="tokens of the text that they are of")
    bytes: int = Field(description="of the weights' file")
    latency_length: int | None = Field(None, description="tokens of the texts that latency is of")
    latency_ms: dict[str, float] = Field(description="by batch size: the lower quartile of passes, eager")
    speedup: dict[str, float] = Field(description="by batch size, against the dense model in turn with it")
    lead: Lead | None = None
    shorter: dict[int, Quality] | None = Field(
        None, exclude_if=_none, description="quality of the first dimensions of vectors, by how many"
    )


class Given(Tested):
    """The model as it was given, and how far dense and pruned are from it, paired."""

    change: dict[str, Quality]


class Recall(Part):
    """Of the test rows that have a label, how many are found."""

    rows: int
    dense: float
    pruned: float


class Results(Part):
    """The models that are compared."""

    dense: Result
    pruned: Result
    change: Quality | None = Field(None, description="pruned less dense, paired")
    gained: Quality | None = Field(
        None, exclude_if=_none, description="pruned less what the job without transfer gave, paired"
    )
    recall: dict[str, Recall] = Field({}, description="by label, where rows have one label or several")
    baseline: Tested | None = Field(None, description="always the commonest training answer")
    given: Given | None = Field(None, exclude_if=_none)
    waited: float = Field(0.0, description="part of the time of measuring that a core was waited for")


class Fit(Part):
    """A structure that was fitted to a latency, as it was measured."""

    kept: bool
    ms: float
    dense_ms: float
    of_dense: float
    predicted: float
    passes: int
    spread: float
    median_ms: float
    waited: float = Field(0.0, description="part of the passes' time that they waited for a core")


class Measured(Part):
    """How a latency was measured: the conditions, and the run that decided."""

    runtime: str
    device: str
    device_name: str
    threads: int
    batch_size: int
    length: int
    ms: float = Field(description="the lower quartile of passes, without waits for a core")
    dense_ms: float
    passes: int
    spread: float
    median_ms: float | None = Field(None, description="as a clock shows it, waits for a core and all")
    p95_ms: float | None = Field(None, description="as a clock shows it, of 95 in 100 passes at most")
    again: float | None = Field(None, description="at the end, with dense as at the start; null on another machine")
    fits: list[Fit]


class BudgetMet(Part):
    """What was asked, and what was met. `limit`, `met` and `dense` are in the unit of `cost`; of latencies, in ms."""

    cost: str
    of: str
    asked: Number
    limit: Number
    met: Number
    dense: Number
    fraction: float
    sequence_length: int | None = None
    measured: Measured | None = Field(None, exclude_if=_none)


class TaskSaid(Part):
    """The task as it was understood."""

    type: str
    problem: ProblemType = "single_label_classification"
    metric: str
    labels: list[str]
    head: str | None = None


class Sizes(Part):
    """How many units each layer keeps, which layers are gone, and the hidden size, where it shrinks."""

    heads: list[int] = []
    neurons: list[int] = []
    channels: list[int] = Field([], exclude_if=lambda blocks: not blocks, description="of each block of an image model")
    left_out: dict[str, int] = Field(
        {},
        exclude_if=lambda layers: not layers,
        description="of an image model whose layers read their own channels: how many that are left each leaves out",
    )
    dropped: list[int] = Field([], exclude_if=lambda layers: not layers)
    hidden: int | None = Field(None, exclude_if=_none)


class Laid(Sizes):
    """A structure, its cost, and the part of all units' worth that it keeps."""

    worth: float
    cost: int


class Layout(Part):
    """The regular structure and the free one of the same limit, whichever was asked for."""

    regular: Laid
    free: Laid
    on_dev: Interval | None = Field(
        None, exclude_if=_none, description="of 'auto', which made both: the metric of regular less free, paired"
    )


class Zeros(Part):
    """Single weights at zero."""

    pattern: str
    zeros: int
    weights: int
    gzip_bytes: int
    says: str
    gpu_latency_ms: dict[str, dict[str, float]] | None = None


class Vocabulary(Part):
    """Tokens before it was trimmed, and after."""

    before: int
    kept: int
    missing: float = Field(0.0, description="of the tokens of the test texts, the part that is not kept")


class Trial(Part):
    """A choice that `auto` tried; `seen`, `error` and `weighed` are its lead over none."""

    choice: str
    sources: list[int]
    unlabelled: bool = Field(False, description="whether from the target's own unlabelled text")
    splits: int
    score: float
    seen: float
    error: float
    weighed: float


class Auto(Part):
    """What `auto` settled, and why."""

    chosen: str
    why: str
    trials: list[Trial]
    related: list[float | None] = Field([], description="of each source: its labels to the target's; null: not asked")
    as_text: list[int] = Field([], description="sources whose labels are not used")


class TransferSaid(Part):
    """How it was borrowed from the sources."""

    asked: str | None = None
    coupling: str
    share: list[str] = []
    stages: list[str]
    weighting: str = "fixed"
    sources: list[int] = Field(description="numbers of those in use")
    unlabelled: bool = Field(False, description="whether the target's own unlabelled text is in use")
    auto: Auto | None = None
    weights: dict[str, list[tuple[int, float]]] = Field({}, description="learned: by task, (step, weight)")


class RowCounts(Part):
    """Rows in use, and those left out."""

    train: int
    dev: int
    test: int
    sources: list[int]
    unlabelled: int = Field(0, description="the target's own, without labels")
    dropped: dict[str, int]
    names: dict[str, str] = Field({}, description="of the data sets, by id")


class Trained(Part):
    """Optimiser steps and learning rates by stage, and the seed."""

    steps: dict[str, int]
    rates: dict[str, float]
    seed: int


class Curve(Part):
    """A stage's looks at dev, which was kept, and learned weights: [step, target, each source]."""

    points: list[dict[str, Number]] = []
    kept_step: int = 0
    weights: list[list[Number]] = []


class WorkMacs(Part):
    """Multiply-accumulates of the job."""

    train: Number
    measure: Number


class Memory(Part):
    """The most that was held, in bytes."""

    process: int
    gpu: int | None


class Environment(Part):
    """What the numbers were measured on."""

    device: str
    cpu: str | None = None
    processes: int = 1
    machine: str
    python: str | None = None
    versions: dict[str, str]


class Verified(Part):
    """What a fresh process found in the files."""

    rows: int
    test: dict[str, float] = {}
    changed_predictions: int
    max_difference_to_measured: float = 0.0
    max_difference_between_loaders: float | None = None
    max_difference_onnx: float | None = None
    parameters: int


class FileQuality(Tested):
    """What a fresh process found a file to answer; `change`: less model.safetensors, paired."""

    change: Quality | None = None


class Seen(Part):
    """All that a fresh process found: of model.safetensors, and of each file of ONNX Runtime beside it."""

    verified: Verified
    files: dict[str, FileQuality] = {}


class FileMeasured(FileQuality):
    """A file of the download that holds the model: its own quality, size and speed."""

    bytes: int
    latency_ms: dict[str, float] = Field(description="by batch size: eager PyTorch, or ONNX Runtime on the CPU")
    speedup: dict[str, float] = Field(description="by batch size, against the dense model in such a file, in turn")


class Told(Part):
    """What is told of a job, however many sizes it had."""

    task: TaskSaid
    transfer: TransferSaid
    warnings: list[str] = []
    data: RowCounts
    timings_s: dict[str, float]
    work_macs: WorkMacs | None = None
    peak_memory_bytes: Memory | None = None
    environment: Environment

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return self.model_dump(mode="json")


class Report(Told):
    """The whole of it."""

    budget: BudgetMet
    results: Results
    control: Result | None = None
    structure: Sizes
    layout: Layout | None = None
    sparsity: Zeros | None = None
    vocabulary: Vocabulary | None = None
    train: Trained
    curves: dict[str, Curve] = {}
    verified: Verified | None = None
    files: dict[str, FileMeasured] = Field({}, description="by name")


class Size(Part):
    """One of several sizes: what was asked, and met; `change` and `on_dev` are less dense, paired.

    Its folder, named as it is, has all that a job of this size alone would have.
    """

    name: str
    error: str | None = Field(None, exclude_if=_none, description="why it was not made")
    budget: BudgetMet | None = None
    result: Result | None = None
    control: Result | None = None
    change: Interval | None = Field(None, description="the task's metric on the test rows less that of dense")
    on_dev: Interval | None = Field(None, description="the same on the dev rows, which recommendations are made by")
    structure: Sizes | None = None
    files: dict[str, FileMeasured] = Field({}, description="by name")


class FamilyReport(Told):
    """What a job of several sizes found, the largest first."""

    dense: Result
    baseline: Tested | None = None
    given: Tested | None = Field(None, exclude_if=_none)
    sizes: list[Size]
    recommended: str | None = Field(
        None,
        description="the smallest that dev rows do not tell from dense, nor any larger; it loses at most 0.02 there",
    )
    knee: str | None = Field(None, description="the one from which on quality falls faster than size")


class ProbeReport(Part):
    """What a job found that only measured."""

    latency: list[Latency]
    timings_s: dict[str, float]
    environment: Environment

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return self.model_dump(mode="json")


def stored(metrics: Any) -> Report | FamilyReport | None:
    """The report among a job's metrics as they are stored; None where this version can read none, or it made none."""
    try:
        return (FamilyReport if "sizes" in (metrics or ()) else Report).model_validate(metrics)
    except ValidationError:
        return None


def probed(metrics: Any) -> ProbeReport | None:
    """What a job found that only measured; None of another."""
    try:
        return ProbeReport.model_validate(metrics)
    except ValidationError:
        return None
