"""What every handler works on: settings, database, storage, and whose request it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from sqlalchemy import Row

from api.coalesce import Coalescer
from api.http.auth import CALLER, NOBODY, Caller, lacking
from api.http.problems import Problem
from api.readers import Readers
from api.watch import Watch
from core.ledger.database import Database
from core.ledger.files.storage import Storage
from core.ledger.settings import Settings
from core.ledger.tables import DEFAULT_TENANT, Event, Job


@dataclass(frozen=True)
class Context:
    """One a process, but for the caller."""

    settings: Settings
    database: Database
    storage: Storage
    watch: Watch
    readers: Readers
    polls: Coalescer[tuple[str, str], Row[Any]]  # (tenant, job) -> what is shown of it
    streams: Coalescer[tuple[str, str, int, int], tuple[Job, Sequence[Event]]]  # see `api.routes.events.read`
    caller: Caller = NOBODY

    @property
    def tenant_id(self) -> str:
        """Whose data sets, jobs and keys the request may see."""
        return self.caller.tenant_id


async def context(request: Request) -> Context:
    """What a handler of this request works on."""
    return replace(cast(Context, request.app.state.context), caller=request.scope.get(CALLER, NOBODY))


Here = Annotated[Context, Depends(context)]


async def admin(here: Here) -> None:
    """Let only admins in."""
    if "admin" not in here.caller.scopes:
        raise lacking("admin")


async def operator(here: Here) -> None:
    """Let only admins of the default tenant in, who run the server: numbers of all tenants are theirs alone."""
    await admin(here)
    if here.tenant_id != DEFAULT_TENANT:
        raise Problem(403, "This is for the operators of the server, the admins of its default tenant.")
