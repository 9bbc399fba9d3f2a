"""What every handler works on: settings, database, storage, and whose request it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from api.watch import Watch
from core.ledger.database import Database
from core.ledger.settings import Settings
from core.ledger.storage import Storage
from core.ledger.tables import DEFAULT_TENANT


@dataclass(frozen=True)
class Context:
    """One a process, but for the tenant."""

    settings: Settings
    database: Database
    storage: Storage
    watch: Watch
    tenant_id: str = DEFAULT_TENANT


async def _context(request: Request) -> Context:
    return cast(Context, request.app.state.context)


Here = Annotated[Context, Depends(_context)]
