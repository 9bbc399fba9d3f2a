"""Jobs as people look for them: by words, status and labels, in some order. Every question is bounded.

Status and age are indexed, and reach all jobs. For anything else the `NEAR` newest are looked through, or the pages of
one tenant with many jobs would cost all others their answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Text, cast, func, or_, select
from sqlalchemy.orm import Session

from core.ledger.jobs.states import EDGES
from core.ledger.tables import Dataset, Event, Job
from core.spec.metrics import METRICS

Order = Literal["newest", "oldest", "model", "took", "quality", "ms"]
ORDERS: tuple[Order, ...] = get_args(Order)
NEAR = 1000
MOST = 10_000  # that are counted
LIKE_DATA = 20  # data sets whose names hold a word
MAX_WORDS = 5


@dataclass(frozen=True)
class Asked:
    """What somebody looks for; `page` counts from 1."""

    status: str | None = None
    words: str = ""
    labels: Sequence[tuple[str, str]] = ()
    order: Order = "newest"
    page: int = 1

    @property
    def near(self) -> bool:
        """Whether the newest alone are looked through."""
        return bool(self.words or self.labels) or self.order not in ("newest", "oldest")


def listed(session: Session, tenant_id: str, asked: Asked, limit: int) -> tuple[Sequence[Job], bool]:
    """A page of `limit` jobs, and whether there are more."""
    query = select(Job).where(*_conditions(session, tenant_id, asked)).order_by(*_order(asked.order))
    rows = session.scalars(query.offset((asked.page - 1) * limit).limit(limit + 1)).all()
    return rows[:limit], len(rows) > limit


def counts(session: Session, tenant_id: str) -> dict[str, int]:
    """How many jobs there are of each status; what is more than `MOST` is one more."""
    of_each = [_count(tenant_id, status).label(status) for status in EDGES]
    return dict(zip(EDGES, session.execute(select(*of_each)).one(), strict=True))


def names(session: Session, tenant_id: str, ids: Sequence[str]) -> dict[str, str]:
    """Of data sets that are still there: id -> name."""
    query = select(Dataset.id, Dataset.name).where(Dataset.tenant_id == tenant_id, Dataset.id.in_(ids))
    return dict(session.execute(query).tuples().all())


def progress(session: Session, ids: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
    """What these jobs said of their steps, oldest first: job -> data of events."""
    query = select(Event.job_id, Event.data).where(Event.job_id.in_(ids), Event.type == "progress").order_by(Event.seq)
    found: dict[str, list[Mapping[str, Any]]] = {}
    for job_id, data in session.execute(query).tuples():
        found.setdefault(job_id, []).append(data)
    return found


def _conditions(session: Session, tenant_id: str, asked: Asked) -> list[ColumnElement[bool]]:
    found = [Job.tenant_id == tenant_id]
    if asked.status is not None:
        found.append(Job.status == asked.status)
    if asked.near:
        newest = select(Job.id).where(*found).order_by(Job.id.desc()).limit(NEAR).subquery()
        found.append(Job.id.in_(select(newest.c.id)))
    found += [Job.spec["labels"][key].as_string() == value for key, value in asked.labels]
    return found + [_holds(session, tenant_id, word) for word in asked.words.split()[:MAX_WORDS]]


def _holds(session: Session, tenant_id: str, word: str) -> ColumnElement[bool]:
    """Whether a job's id, title, model, labels, or the name of one of its data sets has a word in it."""
    own = (Job.id, Job.spec["title"].as_string(), Job.spec["model"].as_string(), cast(Job.spec["labels"], Text))
    texts = [func.lower(text).contains(word.lower(), autoescape=True) for text in own]
    like = func.lower(Dataset.name).contains(word.lower(), autoescape=True)
    query = select(Dataset.id).where(Dataset.tenant_id == tenant_id, like).order_by(Dataset.id.desc()).limit(LIKE_DATA)
    return or_(*texts, *(cast(Job.spec, Text).contains(found) for found in session.scalars(query)))


def _order(order: Order) -> list[ColumnElement[Any]]:
    newest = Job.id.desc()
    match order:
        case "oldest":
            return [Job.id.asc()]
        case "model":
            return [Job.spec["model"].as_string(), newest]
        case "took":
            return [(Job.finished_at - Job.started_at).desc().nulls_last(), newest]
        case "quality":
            each = [Job.metrics[("results", "pruned", "test", name, "value")].as_float() for name in METRICS]
            return [func.coalesce(*each).desc().nulls_last(), newest]
        case "ms":
            return [Job.metrics[("results", "pruned", "latency_ms", "1")].as_float().asc().nulls_last(), newest]
    return [newest]


def _count(tenant_id: str, status: str) -> Any:
    some = select(Job.id).where(Job.tenant_id == tenant_id, Job.status == status).limit(MOST + 1).subquery()
    return select(func.count()).select_from(some).scalar_subquery()
