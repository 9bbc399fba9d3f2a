"""`/`: the jobs, found by words, status and labels, in some order: all of it in the address."""

from __future__ import annotations

import shlex
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from api.context import Context, Here
from api.page import demo, view
from api.page.answer import PageRoute, show
from core.ledger.jobs import listing
from core.ledger.jobs.listing import ORDERS, Asked, Order
from core.ledger.jobs.states import EDGES

ROWS = 25  # a page
MAX_PAGE = 10**6
ORDER_WORDS = {
    "newest": "newest first",
    "oldest": "oldest first",
    "model": "model",
    "took": "longest first",
    "quality": "best quality first",
    "ms": "fastest first",
}

COLUMNS = {  # that may be left out
    "model": "model and data",
    "budget": "budget",
    "quality": "quality",
    "ms": "time",
    "started": "started",
    "took": "took",
    "curve": "curve",
}

router = APIRouter(include_in_schema=False, route_class=PageRoute)


class Question(BaseModel):
    """What the address asks for; what there is no such of is left out."""

    q: str = Field("", max_length=300)
    status: str = Field("", max_length=300)
    label: str = Field("", max_length=300)
    sort: str = Field("", max_length=300)
    page: str = Field("", max_length=300)
    column: list[str] = Field([], max_length=len(COLUMNS))

    @property
    def columns(self) -> list[str]:
        """That are shown; all, where none is named."""
        return [name for name in COLUMNS if name in self.column] or [*COLUMNS]


Asking = Annotated[Question, Query()]


@router.get("/")
def jobs_page(here: Here, request: Request, question: Asking) -> Response:
    """The table."""
    return show(request, "jobs.html", **_values(here, question))


@router.get("/jobs.part")
def jobs_part(here: Here, request: Request, question: Asking) -> Response:
    """The part of it that changes by itself."""
    return show(request, "jobs_table.html", **_values(here, question))


def _values(here: Context, question: Question) -> dict[str, Any]:
    asked = _asked(question)
    with here.database.read() as session:
        found, more = listing.listed(session, here.tenant_id, asked, ROWS)
        rows = view.rows_of(here, session, found)
        counts = listing.counts(session, here.tenant_id)
    return {
        "rows": rows,
        "counts": counts,
        "total": sum(counts.values()),
        "most": listing.MOST,
        "near": listing.NEAR if asked.near else None,
        "asked": asked,
        "label": question.label,
        "columns": COLUMNS,
        "shown_columns": question.columns,
        "orders": ORDER_WORDS,
        "more": more,
        "link": lambda **changed: _link(asked, question, **changed),
        "demo": demo.there(here),
        "active": any(row.active for row in rows),
    }


def _asked(question: Question) -> Asked:
    label, page = question.label, question.page
    pairs = [(key, value) for key, mark, value in (one.partition(":") for one in words_of(label)) if mark and key]
    number = int(page) if page.isdecimal() and 0 < int(page) < MAX_PAGE else 1
    known: Order = next((order for order in ORDERS if order == question.sort), "newest")
    return Asked(
        question.status if question.status in EDGES else None,
        question.q.replace("\0", "").strip(),
        pairs,
        known,
        number,
    )


def words_of(label: str) -> list[str]:
    """Words, of which those in quotes may hold spaces."""
    label = label.replace("\0", "")
    try:
        return shlex.split(label)
    except ValueError:  # a quote that is not closed
        return label.split()


def _link(asked: Asked, question: Question, /, **changed: object) -> str:
    """The same question, but for what is changed: then from its first page."""
    values: dict[str, Any] = {
        "q": asked.words,
        "status": asked.status,
        "label": question.label,
        "sort": asked.order,
        "page": 1,
    }
    values |= {"column": question.columns if question.columns != [*COLUMNS] else []} | changed
    plain = {"sort": "newest", "page": 1}
    given = {name: value for name, value in values.items() if value and value != plain.get(name)}
    return "/" + (f"?{urlencode(given, doseq=True)}" if given else "")
