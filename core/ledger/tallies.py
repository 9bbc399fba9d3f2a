"""Counts that only grow, for monitoring: what happened stays counted when its job is deleted.

A count is appended in the transaction of what it counts, so no transaction waits for another's; `compact` adds up.
"""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.ledger.tables import Tally


def add(session: Session, name: str, label: str = "", ms: int = 0, count: int = 1) -> None:
    """One more of `name`, or `count`, which took so long."""
    session.add(Tally(name=name, label=label, count=count, ms=ms))


def totals(session: Session, name: str) -> dict[str, tuple[int, float]]:
    """Label -> (count, seconds)."""
    query = select(Tally.label, func.sum(Tally.count), func.sum(Tally.ms)).where(Tally.name == name)
    return {label: (int(count), float(ms) / 1000) for label, count, ms in session.execute(query.group_by(Tally.label))}


def compact(session: Session) -> None:
    """Replace the rows by their sums; rows that another relay is at are left to it."""
    sums: dict[tuple[str, str], Tally] = {}
    for row in session.scalars(select(Tally).with_for_update(skip_locked=True)).all():
        total = sums.setdefault((row.name, row.label), Tally(name=row.name, label=row.label, count=0, ms=0))
        total.count += row.count
        total.ms += row.ms
        session.delete(row)
    session.add_all(sums.values())
