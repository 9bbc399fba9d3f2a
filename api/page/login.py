"""`/login`, `/logout`: a key is given once."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.context import Here
from api.http import session
from api.page.answer import Given, PageRoute, go, show, text
from core.ledger import keys, logins

router = APIRouter(include_in_schema=False, route_class=PageRoute)
REFUSED = "The key is unknown, expired or revoked; ask your admin for a new one."
CANNOT_READ = "The key lacks the scope 'read', and so could see nothing; ask your admin for one that has it."


@router.get("/login")
def login_form(here: Here, request: Request, next: Annotated[str, Query(max_length=2000)] = "/") -> Response:
    """The form."""
    if not here.settings.require_keys:
        return go("/")
    return show(request, "login.html", back=session.inside(next), refused=None)


@router.post("/login")
def login(here: Here, request: Request, form: Given) -> Response:
    """Begin, if the key is good."""
    secret, back = text(form, "key"), session.inside(text(form, "next"))
    key = keys.find(here.database, {secret}).get(secret)
    refused = REFUSED if key is None else CANNOT_READ if "read" not in key.scopes else None
    if key is None or refused:
        return show(request, "login.html", 401 if key is None else 403, back=back, refused=refused)
    with here.database.begin() as opened:
        token = logins.create(opened, key.id)
    answer = go(back)
    session.begin(request, answer, token)
    return answer


@router.post("/logout")
def logout(here: Here, request: Request, form: Given) -> Response:
    """End it, here and in the ledger."""
    with here.database.begin() as opened:
        logins.end(opened, request.cookies.get(session.LOGIN, ""))
    answer = go("/login")
    session.end(answer)
    return answer
