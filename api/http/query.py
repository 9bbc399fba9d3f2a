"""Query parameters that an address does not know are refused: one that is misspelt would be ignored without a word."""

from __future__ import annotations

from itertools import islice

from fastapi import Request
from fastapi.routing import APIRoute

from api.http.problems import invalid
from api.schemas import Fault
from core.spec.errors import meant

MAX_UNKNOWN = 5  # named in an answer
MAX_NAME = 100


async def require_known(request: Request) -> None:
    """Raises a 422 Problem that names what is not known, and what is."""
    route = request.scope.get("route")
    if not request.scope["query_string"] or not isinstance(route, APIRoute) or not route.path.startswith("/v1/"):
        return
    known = [field.alias for field in route.dependant.query_params]
    unknown = (name for name in request.query_params if name not in known)
    if faults := [_fault(name[:MAX_NAME], known) for name in islice(unknown, MAX_UNKNOWN)]:
        raise invalid(faults)


def _fault(name: str, known: list[str]) -> Fault:
    here = f"known here: {', '.join(sorted(known))}" if known else "this address takes none"
    return Fault(parameter=name, detail=f"is not a known parameter{meant(name, known) or ';'} {here}")
