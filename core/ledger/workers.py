"""Which workers are there, as they say themselves every few seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, select
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
        worker.seen_at = now


def gone(session: Session, name: str) -> None:
    """The worker says that it leaves."""
    session.execute(delete(Worker).where(Worker.name == name))


def alive(session: Session) -> Sequence[tuple[Worker, int]]:
    """Each worker that was heard of lately, with how many jobs it runs."""
    busy = select(func.count()).where(Job.worker == Worker.name, Job.status.in_(("running", "cancelling")))
    query = select(Worker, busy.scalar_subquery()).where(Worker.seen_at >= clock_ms(session) - int(ALIVE_S * 1000))
    return session.execute(query.order_by(Worker.name)).tuples().all()
