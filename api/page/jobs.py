"""`/`: the jobs, found by words, status and labels, in some order: all of it in the address."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from api.context import Context, Here
from api.page import demo, view
from api.page.answer import PageRoute, show
from core.ledger import listing
from core.ledger.jobs import EDGES
from core.ledger.listing import ORDERS, Asked, Order

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

router = APIRouter(include_in_schema=False, route_class=PageRoute)
Text = Annotated[str, Query(max_length=300)]


@router.get("/")
def jobs_page(
    here: Here, request: Request, q: Text = "", status: Text = "", label: Text = "", sort: Text = "", page: Text = ""
) -> Response:
    """The table."""
    return show(request, "jobs.html", **_values(here, q, status, label, sort, page))


@router.get("/jobs.part")
def jobs_part(
    here: Here, request: Request, q: Text = "", status: Text = "", label: Text = "", sort: Text = "", page: Text = ""
) -> Response:
    """The part of it that changes by itself."""
    return show(request, "jobs_table.html", **_values(here, q, status, label, sort, page))


def _values(here: Context, q: str, status: str, label: str, sort: str, page: str) -> dict[str, Any]:
    asked = _asked(q, status, label, sort, page)
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
        "label": label,
        "orders": ORDER_WORDS,
        "more": more,
        "link": lambda **changed: _link(asked, label, **changed),
        "demo": demo.there(here),
        "active": any(row.active for row in rows),
    }


def _asked(q: str, status: str, label: str, sort: str, page: str) -> Asked:
    """What is asked for; what there is no such of is left out."""
    pairs = [(key, value) for key, mark, value in (one.partition(":") for one in label.split()) if mark and key]
    number = int(page) if page.isdecimal() and 0 < int(page) < MAX_PAGE else 1
    known: Order = next((order for order in ORDERS if order == sort), "newest")
    return Asked(status if status in EDGES else None, q.strip(), pairs, known, number)


def _link(asked: Asked, labels: str, /, **changed: object) -> str:
    """The same question, but for what is changed: then from its first page."""
    values = {"q": asked.words, "status": asked.status, "label": labels, "sort": asked.order, "page": 1} | changed
    plain = {"sort": "newest", "page": 1}
    given = {name: value for name, value in values.items() if value and value != plain.get(name)}
    return "/" + (f"?{urlencode(given)}" if given else "")
