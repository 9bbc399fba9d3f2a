"""What happened to a job, by attempt and stage, from its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from core.ledger import tables
from core.spec.latency import Latency


@dataclass(frozen=True)
class Step:
    """A stage of an attempt; `to` come, running `now`, `done`, or `broken` off."""

    stage: str
    state: str
    size: str | None = None
    control: bool = False
    began_at: int | None = None
    ended_at: int | None = None
    step: int | None = None
    steps: int | None = None

    @property
    def took_s(self) -> float | None:
        """Seconds, once it has ended."""
        return None if self.began_at is None or self.ended_at is None else (self.ended_at - self.began_at) / 1000


@dataclass
class Attempt:
    """One start of a job, and how it ended."""

    number: int
    worker: str
    started_at: int
    finished_at: int | None
    outcome: str | None
    reason: str | None
    steps: list[Step] = field(default_factory=list)


def attempts(
    rows: Sequence[tables.Attempt], events: Sequence[tables.Event], status: str, sizes: Sequence[str | None] = (None,)
) -> list[Attempt]:
    """Every attempt with its stages, oldest first; of the one that runs also those to come, of all `sizes`."""
    found = {
        row.number: Attempt(row.number, row.worker, row.started_at, row.finished_at, row.outcome, row.reason)
        for row in rows
    }
    current: Attempt | None = None
    for event in events:
        if event.type == "status":
            _close(current, event, ended=event.data.get("status") == "succeeded")
            current = found.get(event.data.get("attempt", 0)) if event.data.get("status") == "running" else None
        elif current is not None and event.type == "stage":
            _close(current, event, ended=True)
            current.steps.append(_begun(event))
        elif current is not None and event.type == "progress" and current.steps:
            current.steps[-1] = _further(current.steps[-1], event.data)
    if current is not None and status == "running":
        current.steps += _to_come(current.steps, sizes)
    return [*found.values()]


@dataclass(frozen=True)
class Note:
    """Something for people to read, and when it was said."""

    says: str
    at: int


def notes(events: Sequence[tables.Event]) -> list[Note]:
    """What a job has told in words, or in numbers that are best read as words."""
    return [Note(says, event.at) for event in events if (says := _in_words(event))]


def _in_words(event: tables.Event) -> str | None:
    if event.type == "note":
        return str(event.data.get("message", ""))
    if event.type != "latency":
        return None
    try:
        return f"Measured: {Latency.model_validate(event.data.get('latency')).says}."
    except ValidationError:  # of another version
        return None


def controlled(events: Sequence[tables.Event]) -> bool:
    """Whether the job without transfer, which runs beside, has begun."""
    return any(event.type == "stage" and event.data.get("control") for event in events)


def _begun(event: tables.Event) -> Step:
    data = event.data
    return Step(str(data.get("stage")), "now", data.get("size"), bool(data.get("control")), event.at)


def _further(step: Step, data: Mapping[str, Any]) -> Step:
    same = data.get("stage") == step.stage and data.get("size") == step.size
    return replace(step, step=data.get("step"), steps=data.get("steps")) if same else step


def _close(attempt: Attempt | None, event: tables.Event, ended: bool) -> None:
    if attempt is not None and attempt.steps and attempt.steps[-1].state == "now":
        attempt.steps[-1] = replace(attempt.steps[-1], state="done" if ended else "broken", ended_at=event.at)


def _to_come(steps: Sequence[Step], sizes: Sequence[str | None]) -> list[Step]:
    """Those after the last, of the usual ones; those of a control are not among them."""
    each = [(stage, size) for size in sizes for stage in ("prune", "recover")]
    order = [("data", None), ("teach", None), *each, ("measure", None), ("export", None)]
    last = next(((step.stage, step.size) for step in reversed(steps) if (step.stage, step.size) in order), None)
    after = order[order.index(last) + 1 :] if last else order
    return [Step(stage, "to", size) for stage, size in after]
