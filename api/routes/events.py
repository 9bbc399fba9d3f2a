"""`/v1/jobs/{id}/events`: what happened, by page (JSON) or as it happens (server-sent events)."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Sequence, Set
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import StreamingResponse

from api.context import Context, Here
from api.http.problems import RESPONSES, Problem
from api.routes.jobs import ID, no_such_job
from api.schemas import Event, EventPage, instant
from core.ledger import tables
from core.ledger.database import Database
from core.ledger.jobs import queries, states

log = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream"
HEARTBEAT_S = 15.0
MAX_STREAM_S = 900.0  # then the client connects again, with a key that still has to be good
PAGE = 100

Asked = tuple[str, str, int, int]  # tenant, job, after, limit
Happened = tuple[tables.Job, Sequence[tables.Event]]

router = APIRouter(prefix="/v1/jobs/{job_id}/events", tags=["jobs"])

Seq = Annotated[int, Query(ge=0, lt=2**63, description="`seq` of the last event seen")]


@router.get(
    "",
    response_model=EventPage,
    responses={
        200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}},
        204: {"description": "Of the stream: the job has ended, and its last event has been seen"},
        **{s: RESPONSES[s] for s in (404, 422)},
    },
)
async def list_events(
    here: Here,
    job_id: str,
    request: Request,
    after: Seq = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = PAGE,
    last_event_id: Annotated[int | None, Header(ge=0, lt=2**63, description="like `after`, of the stream")] = None,
) -> EventPage | Response:
    """What happened to a job, oldest first: ask again with `after` to get what came since.

    With `Accept: text/event-stream`, events come as they happen, up to the job's end; a client that connects again with
    `Last-Event-ID` misses none and gets none twice.
    """
    if EVENT_STREAM not in request.headers.get("accept", ""):
        _, rows = await _read(here, job_id, after, limit)
        return EventPage(items=[_event(row) for row in rows], after=rows[-1].seq if rows else after)
    after = after if last_event_id is None else last_event_id
    job, rows = await _read(here, job_id, after, 1)
    if job.status in states.TERMINAL and not rows:
        return Response(status_code=204)  # which tells an EventSource to stop
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_frames(here, job_id, after), media_type=EVENT_STREAM, headers=headers)


async def _frames(here: Context, job_id: str, after: int) -> AsyncIterator[bytes]:
    end = time.monotonic() + MAX_STREAM_S
    try:
        while True:
            # The job is read first: of one that has ended, every event is among the rows.
            job, rows = await _read(here, job_id, after, PAGE)
            for row in rows:
                after = row.seq
                yield format_sse_event(id=str(row.seq), event=row.type, data_str=_event(row).model_dump_json())
            if len(rows) == PAGE:
                continue
            if job.status in states.TERMINAL or time.monotonic() > end:
                return
            if not await here.watch.change(job_id, job.version, HEARTBEAT_S):
                yield KEEPALIVE_COMMENT
    except SQLAlchemyError as error:  # the client connects again
        log.warning("the database is away: %s", error)
    except Problem:  # deleted
        return


def read(database: Database, asked: Set[Asked]) -> dict[Asked, Happened]:
    """Jobs, and what happened to them next, of those that there are: those who watch one job have one answer."""
    found = {}
    with database.read() as session:
        for tenant_id, job_id, after, limit in asked:
            if (job := queries.find(session, tenant_id, job_id)) is not None:
                found[tenant_id, job_id, after, limit] = job, queries.events(session, job_id, after, limit)
    return found


async def _read(here: Context, job_id: str, after: int, limit: int) -> Happened:
    found = await here.streams.get((here.tenant_id, job_id, after, limit)) if ID.fullmatch(job_id) else None
    if found is None:
        raise no_such_job()
    return found


def _event(row: tables.Event) -> Event:
    return Event(seq=row.seq, type=row.type, data=row.data, at=instant(row.at))
