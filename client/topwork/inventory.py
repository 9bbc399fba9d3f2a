"""Answers of the API about what a server has: data sets, models, methods, workers.

What a later version of the server adds is kept, as an attribute of its name.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """Base of every answer: immutable."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Skipped(Answer):
    """A column that was left out."""

    column: str
    why: str


class ColumnFacts(Answer):
    """A column that was kept; `values` says how often there is each, of a column of few."""

    name: str
    type: str
    empty: int
    values: dict[str, int]


class FileOptions(Answer):
    """What its user said of a file; None is found out."""

    delimiter: str | None = None
    encoding: str | None = None
    header: bool | None = None


class Understood(Answer):
    """What was made out of a file."""

    kind: str
    rows: int
    columns: list[ColumnFacts]
    skipped: list[Skipped]
    compression: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    notes: list[str]
    asked: FileOptions | None = None


class Dataset(Answer):
    """A table that was uploaded, or fetched from a hub."""

    id: str
    name: str
    format: str
    rows: int
    columns: list[str]
    size_bytes: int
    sha256: str
    upload_sha256: str
    understood: Understood | None = None
    created_at: datetime
    links: dict[str, str]


class DatasetPage(Answer):
    """Data sets, newest first."""

    items: list[Dataset]
    next: str | None = None


class Preview(Answer):
    """The first rows of a data set."""

    columns: list[str]
    rows: list[dict[str, Any]]
    understood: Understood | None = None


class Model(Answer):
    """A local model, by the name to give as `model` in a job."""

    name: str
    task: Literal["text", "image"]
    architecture: str
    layers: int | None = None
    heads: int | None = None
    neurons: int | None = None
    hidden: int | None = None
    pruned: bool
    labels: list[str]
    reads: int | None = None
    pixels: int | None = None
    encoder_params: int | None = None
    model_params: int
    size_bytes: int


class UnusableModel(Answer):
    """Something in the models folder that cannot be pruned as it is; `reason` says why, and the mend."""

    name: str
    reason: str


class ModelList(Answer):
    """Models that are there without a download."""

    items: list[Model]
    unusable: list[UnusableModel]


class PruningMethod(Answer):
    """A pruning method, by the name to give as `method` in a job."""

    name: str
    what: str
    needs: str
    cost: str
    use: str
    source: str
    trains: bool
    reads_rows: bool
    sparsity: bool


class MethodList(Answer):
    """The pruning methods."""

    items: list[PruningMethod]


class Gpu(Answer):
    """A graphics processor."""

    name: str
    memory_bytes: int


class Device(Answer):
    """What a worker runs jobs on."""

    type: Literal["cuda", "cpu"]
    cpu: str | None = None
    gpus: list[Gpu]
    cpus: int
    memory_bytes: int


class Worker(Answer):
    """A worker process."""

    name: str
    slots: int
    busy: int
    device: Device
    started_at: datetime
    seen_at: datetime


class WorkerList(Answer):
    """Workers that are there."""

    items: list[Worker]
