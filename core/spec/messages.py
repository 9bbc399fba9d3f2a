"""What the process that does a job's work says while it runs: one message a line of JSON. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from core.spec.latency import Latency
from core.spec.report import Interval

NO_ROOM = 74  # exit code (EX_IOERR of sysexits.h) of a process that found its disk full

StageName = Literal["data", "auto", "teach", "prune", "recover", "measure", "export"]


class Said(BaseModel):
    """Base of every message: immutable."""

    model_config = ConfigDict(frozen=True)

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        return self.model_dump()


def _none(value: object) -> bool:
    return value is None


Control = Annotated[bool, Field(description="of the control beside the job", exclude_if=lambda control: not control)]


Size = Annotated[str | None, Field(description="of several: the one that the stage is of", exclude_if=_none)]


class StageBegun(Said):
    """A stage has begun."""

    event: Literal["stage"] = "stage"
    stage: StageName
    control: Control = False
    size: Size = None


class StageProgress(Said):
    """How far a stage is, and the whole job; what is not known is null."""

    event: Literal["progress"] = "progress"
    stage: StageName
    step: int
    steps: int
    sparsity: float | None = None
    dev: dict[str, float | None] | None = Field(None, description="metrics and loss at the last look")
    eta_s: float | None = None
    overall: float | None = Field(None, description="0 to 1", exclude_if=_none)
    control: Control = False
    size: Size = None


class Saved(Said):
    """What a resumed job starts from lies in `folder` of the attempt."""

    event: Literal["saved"] = "saved"
    stage: StageName | Literal["part"]
    folder: str = Field("state", exclude_if=lambda folder: folder == "state")


class Alive(Said):
    """A sign of life, where no steps can be counted."""

    event: Literal["alive"] = "alive"


class Note(Said):
    """Something for the user to read."""

    event: Literal["note"] = "note"
    message: str


class LatencyMeasured(Said):
    """What the model takes on this machine; jobs on models of the same sizes are planned by it."""

    event: Literal["latency"] = "latency"
    model: str = Field(description="its fingerprint")
    latency: Latency


def _empty(blocks: list[tuple[int, int]]) -> bool:
    return not blocks


Kept = Annotated[list[tuple[int, int]], Field(description="units that are kept, and of how many", exclude_if=_empty)]


class Fitted(Said):
    """The structure is decided: heads and neurons of each layer, or channels of each block."""

    event: Literal["structure"] = "structure"
    heads: Kept = []
    neurons: Kept = []
    channels: Kept = []
    control: Control = False
    size: Size = None


class SizeTrained(Said):
    """One of several sizes is trained. Its quality is of the dev rows, which training chose by: test rows come last."""

    event: Literal["size"] = "size"
    size: str
    metric: str
    quality: Interval
    dense: Interval
    change: Interval = Field(description="of the metric: the size less dense, paired")
    bytes: int = Field(description="of the weights' file, about")
    dense_bytes: int
    control: Control = False


class Done(Said):
    """The last line: the report."""

    event: Literal["done"] = "done"
    metrics: dict[str, Any]


class Fault(Said):
    """Why a job fails; `field` is a JSON pointer into its specification, where one is to blame."""

    code: str = "failed"
    field: str | None = Field(None, exclude_if=_none)
    message: str = "failed without a message"


class Failed(Said):
    """The last line: no attempt can end well."""

    event: Literal["failed"] = "failed"
    error: Fault = Fault()


Message = StageBegun | StageProgress | Saved | Alive | Note | LatencyMeasured | Fitted | SizeTrained | Done | Failed
Listener = Callable[[Message], None]

_MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="event")])


def parse(line: bytes) -> Message | None:
    """The message of a line; None where it is none."""
    try:
        return _MESSAGE.validate_python(json.loads(line))
    except (ValueError, ValidationError):
        return None


def line(message: Message) -> str:
    """Inverse of `parse`."""
    return json.dumps(message.to_json()) + "\n"
