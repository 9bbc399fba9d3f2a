"""`/jobs/{id}/stream`: the part of a job's page that changes, drawn anew at each change, as server-sent events.

Its id is the job's version: who connects again gets it if it has changed meanwhile. All events of the job stand in it,
so that none is lost, and none is there twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import StreamingResponse

from api.context import Context, Here
from api.http.problems import Problem
from api.page.answer import HEADERS, PageRoute, drawn, page
from api.page.job import live_values
from api.routes import jobs as asked
from api.routes.events import EVENT_STREAM, HEARTBEAT_S, MAX_STREAM_S
from core.ledger.jobs import states

log = logging.getLogger(__name__)

QUIET_S = 1.0  # between two drawings

router = APIRouter(prefix="/jobs/{job_id}", include_in_schema=False, route_class=PageRoute)
Version = Annotated[int, Query(ge=-1, lt=2**63)]


@router.get("/live")
async def live(here: Here, request: Request, job_id: str) -> Response:
    """The part as it is now."""
    return page(await _drawn(here, request, await _row(here, job_id)))


@router.get("/stream")
async def stream(
    here: Here,
    request: Request,
    job_id: str,
    after: Version = -1,
    last_event_id: Annotated[int | None, Header(ge=-1, lt=2**63)] = None,
) -> Response:
    """The part at each change, up to the job's end."""
    seen = after if last_event_id is None else last_event_id
    row = await _row(here, job_id)
    if row.status in states.TERMINAL and row.version == seen:
        return Response(status_code=204)  # which tells an EventSource to stop
    headers = HEADERS | {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_frames(here, request, job_id, seen), media_type=EVENT_STREAM, headers=headers)


async def _frames(here: Context, request: Request, job_id: str, seen: int) -> AsyncIterator[bytes]:
    end, last = time.monotonic() + MAX_STREAM_S, None
    try:
        while True:
            row = await _row(here, job_id)
            waits = row.status == "queued"
            if row.version != seen or waits:
                html = await _drawn(here, request, row)
                if html != last:
                    yield format_sse_event(id=str(row.version), event="live", data_str=html)
                seen, last = row.version, html
            if row.status in states.TERMINAL or time.monotonic() > end:
                return
            if not await here.watch.change(job_id, row.version, asked.WAITING_S if waits else HEARTBEAT_S):
                yield KEEPALIVE_COMMENT
            await asyncio.sleep(QUIET_S)
    except SQLAlchemyError as error:  # the browser connects again
        log.warning("the database is away: %s", error)
    except Problem:  # deleted
        return


async def _row(here: Context, job_id: str) -> Row[Any]:
    row = await here.polls.get((here.tenant_id, job_id)) if asked.ID.fullmatch(job_id) else None
    if row is None:
        raise asked.no_such_job()
    return row


async def _drawn(here: Context, request: Request, row: Row[Any]) -> str:
    """Once for all who look; why a job waits, its version does not know."""
    key = (here.tenant_id, row.id, row.version, row.status == "queued" and time.monotonic() // asked.WAITING_S)

    def draw() -> str:
        with here.database.read() as session:
            return drawn(request, "job_live.html", **live_values(here, session, asked.find(here, session, row.id)))

    found: str = await request.app.state.shared.get(key, draw)
    return found
