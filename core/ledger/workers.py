"""Which workers are there, as they say themselves every few seconds, and which jobs they can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from core.ledger.tables import Job, Worker, clock_ms

SAY_EVERY_S = 5.0
ALIVE_S = 20.0  # without a word for so long, it counts as gone


def seen(session: Session, name: str, slots: int, device: Mapping[str, Any]) -> None:
    """The worker says that it is there; whoever has been silent for long is forgotten."""
    now = clock_ms(session)
    session.execute(delete(Worker).where(Worker.seen_at < now - int(10 * ALIVE_S * 1000)))
    worker = session.get(Worker, name)
    if worker is None:
        session.add(Worker(name=name, slots=slots, device=dict(device), seen_at=now))
    else:
        worker.slots, worker.device, worker.seen_at = slots, dict(device), now


def gone(session: Session, name: str) -> None:
    """The worker says that it leaves."""
    session.execute(delete(Worker).where(Worker.name == name))


def alive(session: Session) -> Sequence[tuple[Worker, int]]:
    """Each worker that was heard of lately, with how many jobs it runs."""
    busy = select(func.count()).where(Job.worker == Worker.name, Job.status.in_(("running", "cancelling")))
    query = select(Worker, busy.scalar_subquery()).where(Worker.seen_at >= clock_ms(session) - int(ALIVE_S * 1000))
    return session.execute(query.order_by(Worker.name)).tuples().all()


@dataclass(frozen=True)
class Needs:
    """What a job asks of a worker."""

    device: str | None
    gpus: int | None
    memory_gb: float

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Needs:
        """Of a specification as it is stored, of whatever version."""
        asked = spec.get("resources") or {}
        latency = (spec.get("budget") or {}).get("device")  # of several sizes `resources` says it
        device = "cuda" if latency == "cuda" else asked.get("device")
        return cls("cuda" if asked.get("gpus") else device, asked.get("gpus"), asked.get("memory_gb") or 0.0)

    def met_by(self, device: Mapping[str, Any]) -> bool:
        """Whether a worker that is idle could run the job; `Offer.takes` says the same in SQL."""
        offer = Offer.of(device)
        if self.device is not None and (self.device == "cuda") != (offer.gpus is not None):
            return False
        return (offer.gpus is None or (self.gpus or 1) <= offer.gpus) and self.memory_gb <= offer.memory_bytes / 1e9

    def __str__(self) -> str:
        if self.device == "cuda":
            gpus = "a GPU" if self.gpus in (None, 1) else f"{self.gpus} GPUs"
            return gpus + (f" of {self.memory_gb:g} GB" if self.memory_gb else "")
        return f"{self.memory_gb:g} GB of memory"


@dataclass(frozen=True)
class Offer:
    """What a worker has for one more job: GPUs that are free (None: it has none at all), and memory."""

    gpus: int | None
    memory_bytes: int

    @classmethod
    def of(cls, device: Mapping[str, Any]) -> Offer:
        """All that a worker has."""
        gpus = device["gpus"]
        memory = min(gpu["memory_bytes"] for gpu in gpus) if gpus else device["memory_bytes"]
        return cls(len(gpus) or None, memory)

    def takes(self) -> list[ColumnElement[bool]]:
        """Conditions on a `Job` whose `Needs` this meets."""
        device, gpus, memory, latency = _asked()
        kind = (
            [device.is_distinct_from("cuda"), gpus.is_(None), latency.is_distinct_from("cuda")]
            if self.gpus is None
            else [device.is_distinct_from("cpu"), func.coalesce(gpus, 1) <= self.gpus]
        )
        return [*kind, func.coalesce(memory, 0.0) <= self.memory_bytes / 1e9]


def _asked() -> tuple[ColumnElement[Any], ...]:
    """What `Needs` reads, of each job: device, gpus, memory_gb, the budget's device."""
    return (
        Job.spec[("resources", "device")].as_string(),
        Job.spec[("resources", "gpus")].as_integer(),
        Job.spec[("resources", "memory_gb")].as_float(),
        Job.spec[("budget", "device")].as_string(),
    )


def queued(session: Session) -> list[tuple[Mapping[str, Any], int]]:
    """How many jobs wait, of each kind of needs, in the form of a specification."""
    asked = select(*(value.label(str(i)) for i, value in enumerate(_asked()))).where(Job.status == "queued").subquery()
    found: Sequence[Any] = session.execute(select(*asked.c, func.count()).group_by(*asked.c)).all()
    return [
        ({"resources": {"device": device, "gpus": gpus, "memory_gb": memory}, "budget": {"device": latency}}, count)
        for device, gpus, memory, latency, count in found
    ]


class Fleet:
    """The workers that are alive, as they were at one moment: why a queued job does not run yet."""

    def __init__(self, session: Session) -> None:
        self.workers = alive(session)
        self._gpus: dict[str | None, int] = {}  # in use
        if any(worker.device["gpus"] for worker, _ in self.workers):
            each = func.coalesce(Job.spec[("resources", "gpus")].as_integer(), 1)
            running = select(Job.worker, func.sum(each)).where(Job.status.in_(("running", "cancelling")))
            self._gpus = dict(session.execute(running.group_by(Job.worker)).tuples().all())

    def lacks(self, spec: Mapping[str, Any]) -> str | None:
        """What no living worker has that the job needs; None if one has all."""
        needs = Needs.of(spec)
        if not self.workers:
            return "no worker is alive"
        if any(needs.met_by(worker.device) for worker, _ in self.workers):
            return None
        kinds = {"cuda" if worker.device["gpus"] else "cpu" for worker, _ in self.workers}
        if needs.device not in (None, *kinds):
            return "no GPU worker is alive" if needs.device == "cuda" else "no worker without a GPU is alive"
        return f"no worker that is alive has {needs}"

    def busy(self, spec: Mapping[str, Any]) -> bool:
        """Whether no worker that could run the job has room for it."""
        needs = Needs.of(spec)

        def room(worker: Worker, jobs: int) -> bool:
            gpus = len(worker.device["gpus"])
            free = max(gpus, worker.slots) - self._gpus.get(worker.name, 0)
            return jobs < worker.slots and (not gpus or (needs.gpus or 1) <= free)

        return not any(room(worker, jobs) for worker, jobs in self.workers if needs.met_by(worker.device))

    def why(self, spec: Mapping[str, Any], quota: str | None = None) -> str:
        """Why a job waits; `quota`: what its owner has too much of, which is to blame once some worker has all."""
        if (reason := self.lacks(spec) or quota) is not None:
            return reason
        if self.busy(spec):
            return "every worker that fits is busy"
        return "a worker that fits is free, and takes it in a moment (unless it is of an older version)"
