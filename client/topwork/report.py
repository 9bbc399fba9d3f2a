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


def stored(metrics: Any) -> Report | FamilyReport | None:
    """The report among a job's metrics; None where there is none that this version can read."""
    try:
        return (FamilyReport if "sizes" in (metrics or ()) else Report).model_validate(metrics)
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
