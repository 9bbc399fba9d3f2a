"""`/keys`: an admin's keys: make one, which is shown once; revoke one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import ValidationError

from api.context import Context, Here, admin
from api.page.answer import Given, PageRoute, go, show, text, texts
from api.routes import keys as asked
from api.schemas import Fault

router = APIRouter(prefix="/keys", include_in_schema=False, route_class=PageRoute, dependencies=[Depends(admin)])


@router.get("")
def keys_page(here: Here, request: Request, cursor: Annotated[str, Query(max_length=200)] = "") -> Response:
    """All of them, newest first."""
    return _listed(here, request, cursor=cursor)


@router.post("")
def create(here: Here, request: Request, form: Given) -> Response:
    """Make one, and show its secret, this once."""
    days = text(form, "expires_in_days")
    values: dict[str, Any] = {"name": text(form, "name"), "scopes": texts(form, "scopes")}
    # Python reads no integer of thousands of digits; far fewer are refused as too much.
    values |= {"expires_in_days": int(days[:20]) if days.isdecimal() else days} if days else {}
    try:
        wanted = asked.KeyRequest.model_validate(values)
    except ValidationError as error:
        faults = [Fault(pointer=f"/{one['loc'][0]}", detail=one["msg"]) for one in error.errors()]
        return _listed(here, request, faults=faults)
    return _listed(here, request, secret=asked.create_key(here, wanted, Response()).secret)


@router.post("/{key_id}/revoke")
def revoke(here: Here, key_id: str, form: Given) -> Response:
    """From now on, it is worth nothing, nor are its logins."""
    asked.revoke_key(here, key_id)
    return go("/keys")


def _listed(
    here: Context, request: Request, cursor: str = "", faults: Sequence[Fault] = (), secret: str | None = None
) -> Response:
    page = asked.list_keys(here, 100, cursor or None)
    status, own = 422 if faults else 200, here.caller.key_id
    return show(request, "keys.html", status, page=page, faults=faults, secret=secret, own=own)
