"""What a job found, as far as it is told here: `metrics` of a job, and `report.json`, have all of it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

NUMBERS = ("pearson", "spearman", "r2", "rmse", "cosine")  # metrics that are no shares


class Part(BaseModel):
    """Base of every part: immutable."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Interval(Part):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


class Result(Part):
    """A model as it was measured; `test` by metric, times by batch size."""

    test: dict[str, Interval]
    encoder_params: int
    model_params: int
    macs: int
    bytes: int
    latency_ms: dict[str, float]
    speedup: dict[str, float]


class Results(Part):
    """The models that are compared; `change`: pruned less dense, paired."""

    dense: Result
    pruned: Result
    change: dict[str, Interval] | None = None


class BudgetMet(Part):
    """What was asked, and what was met, in the unit of `cost`; of latencies, in ms."""

    cost: str
    of: str
    asked: int | float
    limit: int | float
    met: int | float
    dense: int | float
    fraction: float


class TaskSaid(Part):
    """The task as it was understood."""

    type: str
    metric: str
    labels: list[str]


class Told(Part):
    """What is told of a job, however many sizes it had."""

    task: TaskSaid
    warnings: list[str] = []
    timings_s: dict[str, float]


class Report(Told):
    """What a job found."""

    budget: BudgetMet
    results: Results


class Size(Part):
    """One of several sizes; `error` says why it was not made."""

    name: str
    error: str | None = None
    budget: BudgetMet | None = None
    result: Result | None = None


class FamilyReport(Told):
    """What a job of several sizes found, the largest first; `recommended` is the smallest not told from dense."""

    dense: Result
    sizes: list[Size]
    recommended: str | None = None
    knee: str | None = None


class Point(Part):
    """One size of a model: the part that is left, and about what a pass takes."""

    left: float
    ms: float


class Latency(Part):
    """Milliseconds of a pass under one set of conditions, from the fastest that can be made to dense."""

    runtime: str
    device: str
    device_name: str
    threads: int
    batch_size: int
    length: int
    lowest_ms: float
    dense_ms: float
    curve: list[Point]

    @property
    def says(self) -> str:
        """The range, in words."""
        return (
            f"this model takes {self.lowest_ms:.3g} to {self.dense_ms:.3g} ms (at most "
            f"{self.dense_ms / self.lowest_ms:.1f} times as fast as dense) for a batch of {self.batch_size} with "
            f"length {self.length}, by {self.runtime} on {self.device_name} with {self.threads} threads"
        )


class ProbeReport(Part):
    """What a job found that only measured."""

    latency: list[Latency]
    timings_s: dict[str, float]


AnyReport = Report | FamilyReport | ProbeReport


def stored(metrics: Any) -> AnyReport | None:
    """The report among a job's metrics; None where there is none that this version can read."""
    kinds: dict[str, type[AnyReport]] = {"sizes": FamilyReport, "latency": ProbeReport}
    kind = next((kind for field, kind in kinds.items() if field in (metrics or ())), Report)
    try:
        return kind.model_validate(metrics)
    except ValidationError:
        return None


def shown(value: float, metric: str) -> str:
    """Write a value as people read it: 81.9%, or 0.8194."""
    return f"{value:.4g}" if metric in NUMBERS else f"{value:.1%}"


def milliseconds(value: float) -> str:
    """Write a time as people read it: with two digits that count where it is short."""
    if 0 < value < 1:
        return f"{value:#.2g}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
