"""`/v1/keys`: an admin's keys for the own tenant. A tenant and its first key are made by `topwork keys create`."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Response
from fastapi.openapi.models import Example
from pydantic import BaseModel, ConfigDict, Field

from api.context import Here, admin
from api.http.body import StrictRoute
from api.http.paging import After, Limit, cut, position
from api.http.problems import RESPONSES, Problem
from api.schemas import Key, KeyPage, NewKey, instant
from core.ledger import keys, tables
from core.ledger.keys import Scope
from core.ledger.tables import now_ms

QUOTAS = ("max_queued", "max_running", "max_stored_bytes")
DAY_MS = 24 * 3600 * 1000
EXAMPLES: dict[str, Example] = {
    "key": {"value": {"name": "nightly jobs", "scopes": ["read", "write"], "expires_in_days": 90, "max_queued": 20}}
}

router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=StrictRoute, dependencies=[Depends(admin)])


Limited = Annotated[int, Field(ge=1, le=2**53)] | None


class KeyRequest(BaseModel):
    """A key to make."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=200)]
    scopes: Annotated[
        list[Scope],
        Field(
            min_length=1, max_length=3, description="read: GET; write: everything else; admin: keys, beside the others"
        ),
    ] = ["read", "write"]
    expires_in_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    max_queued: Annotated[Limited, Field(description="jobs of this key that wait; more are refused")] = None
    max_running: Annotated[Limited, Field(description="jobs of this key that run at once; more wait")] = None
    max_stored_bytes: Annotated[Limited, Field(description="data sets and files that this key brought")] = None


@router.post("", status_code=201, responses={s: RESPONSES[s] for s in (413, 415, 422)})
def create_key(here: Here, body: Annotated[KeyRequest, Body(openapi_examples=EXAMPLES)], response: Response) -> NewKey:
    """Make a key. Its secret is in this answer, and nowhere else. Its quotas hold beside those of the tenant."""
    expires_at = None if body.expires_in_days is None else now_ms() + body.expires_in_days * DAY_MS
    with here.database.begin() as session:
        limits = {name: getattr(body, name) for name in QUOTAS}
        row, secret = keys.create(session, here.tenant_id, body.name, body.scopes, expires_at, **limits)
    response.headers["Cache-Control"] = "no-store"
    return NewKey(**_key(row).model_dump(), secret=secret)


@router.get("", responses={422: RESPONSES[422]})
def list_keys(here: Here, limit: Limit = 20, cursor: After = None) -> KeyPage:
    """Keys, newest first, the revoked ones too."""
    before = position(cursor, "key")
    with here.database.read() as session:
        rows, following = cut(keys.page(session, here.tenant_id, limit + 1, before), limit)
    return KeyPage(items=[_key(row) for row in rows], next=following)


@router.delete("/{key_id}", status_code=204, responses={s: RESPONSES[s] for s in (404, 409)})
def revoke_key(here: Here, key_id: str) -> None:
    """Revoke a key: it is worth nothing from the next request on. To ask again is harmless."""
    if key_id == here.caller.key_id:
        raise Problem(
            409, "This is the key that asks; revoke it with another one, so that nobody locks themselves out."
        )
    with here.database.begin() as session:
        known = re.fullmatch("key_[0-9a-f]{32}", key_id) and keys.revoke(session, here.tenant_id, key_id)
    if not known:
        raise Problem(404, "There is no such key; GET /v1/keys lists what there is.")


def _key(row: tables.Key) -> Key:
    return Key(
        id=row.id,
        name=row.name,
        scopes=row.scopes,
        max_queued=row.max_queued,
        max_running=row.max_running,
        max_stored_bytes=row.max_stored_bytes,
        created_at=instant(row.created_at),
        expires_at=None if row.expires_at is None else instant(row.expires_at),
        revoked_at=None if row.revoked_at is None else instant(row.revoked_at),
    )
