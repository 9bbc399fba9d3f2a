"""Answers of the API about jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from topwork.inventory import Answer, Understood
from topwork.report import AnyReport, Latency, stored
from topwork.title import title

ENDED = ("succeeded", "failed", "cancelled")


class Progress(Answer):
    """Where the stage stands; what it does not know is None."""

    step: int | None = None
    steps: int | None = None
    eta_s: float | None = None
    overall: float | None = None
    sparsity: float | None = None
    dev: dict[str, Any] | None = None
    stage: str | None = None
    size: str | None = None


class JobError(Answer):
    """Why a job failed; `field` is a JSON pointer into its specification."""

    code: str
    message: str
    field: str | None = None


class Delivery(Answer):
    """How the last message to a job's webhook fares."""

    status: Literal["waiting", "delivered", "given_up"]
    attempts: int
    last_attempt_at: datetime | None = None
    last_status: int | None = None
    next_attempt_at: datetime | None = None


class Job(Answer):
    """A pruning job."""

    id: str
    status: Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
    stage: str | None = None
    waiting: str | None = None
    progress: Progress
    eta_s: float | None = None
    attempt: int
    max_attempts: int
    metrics: dict[str, Any] | None = None
    error: JobError | None = None
    delivery: Delivery | None = None
    spec: dict[str, Any]
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    links: dict[str, str]

    @property
    def ended(self) -> bool:
        """Whether nothing will change, unless somebody asks."""
        return self.status in ENDED

    @property
    def report(self) -> AnyReport | None:
        """What it found, once it has succeeded."""
        return stored(self.metrics)

    @property
    def title(self) -> str:
        """Its own, or one of its model, task and budget."""
        return title(self.spec)


class Accepted(Job):
    """A job that was asked for; `webhook_secret` is shown in this answer only."""

    webhook_secret: str | None = None


class JobPage(Answer):
    """Jobs, newest first."""

    items: list[Job]
    next: str | None = None


class Event(Answer):
    """Something that happened to a job."""

    seq: int
    type: str
    data: dict[str, Any]
    at: datetime


class EventPage(Answer):
    """Events, oldest first."""

    items: list[Event]
    after: int


class Rows(Answer):
    """Rows that a job uses, duplicates removed."""

    train: int
    dev: int
    test: int
    sources: list[int]
    unlabelled: int
    dropped: dict[str, int]


class Reach(Answer):
    """The range of one cost that pruning can reach."""

    cost: Literal["params", "macs", "bytes"]
    of: Literal["encoder", "model"]
    lowest: int
    dense: int
    sequence_length: int | None = None


class Seconds(Answer):
    """From, to."""

    low: float
    high: float


class Estimate(Answer):
    """What a job would take, once a worker has it."""

    device: Literal["cpu", "cuda"]
    seconds: Seconds | None = None
    basis: str
    memory_bytes: int


class PlannedSize(Answer):
    """One of several sizes."""

    name: str
    limit: int | None = None


class Plan(Answer):
    """What a job would do."""

    spec: dict[str, Any]
    labels: list[str]
    head: str | None = None
    rows: Rows
    units: dict[str, Any] | None = None
    limit: int | None = None
    sizes: list[PlannedSize] = Field([])
    reach: list[Reach]
    latency: list[Latency] = Field([])
    estimate: Estimate | None = None
    says: list[str] = Field([])
    warnings: list[str]
    notes: list[str]
    understood: dict[str, Understood | None]


class OutputFile(Answer):
    """A file to download."""

    path: str
    size_bytes: int
    sha256: str
    media_type: str
    href: str


class FileList(Answer):
    """Files of a job; empty until it has succeeded."""

    items: list[OutputFile]


class Series(Answer):
    """One curve: (step, value)."""

    stage: str
    name: str
    points: list[tuple[int, float]]


class Curves(Answer):
    """Curves of a job."""

    series: list[Series]
