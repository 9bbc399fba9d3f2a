"""`/workers`: who is there to run jobs, on what, and which job each runs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import select

from api.context import Context, Here
from api.page.answer import PageRoute, show
from core.ledger import workers
from core.ledger.jobs import states
from core.ledger.tables import Job, now_ms
from core.spec import title

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/workers")
def workers_page(here: Here, request: Request) -> Response:
    """All that were heard of lately."""
    return show(request, "workers.html", workers=_alive(here))


@router.get("/workers.part")
def workers_part(here: Here, request: Request) -> Response:
    """The table alone."""
    return show(request, "workers_table.html", workers=_alive(here))


def _alive(here: Context) -> list[dict[str, Any]]:
    """Each worker; of the jobs that it runs, those of the tenant by name, the others as a number."""
    with here.database.read() as session:
        found = workers.alive(session)
        query = select(Job).where(Job.tenant_id == here.tenant_id, Job.status.in_(states.RUNNING))
        own = session.scalars(query.where(Job.worker.in_([worker.name for worker, _ in found]))).all()
    now = now_ms()
    return [
        {
            "name": worker.name,
            "device": worker.device,
            "slots": worker.slots,
            "busy": busy,
            "silent_s": max(0, (now - worker.seen_at) // 1000),
            "started_at": worker.started_at,
            "jobs": [(job.id, title.title(job.spec)) for job in own if job.worker == worker.name],
        }
        for worker, busy in found
    ]
