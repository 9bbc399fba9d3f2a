"""`/jobs/{id}`: a job, live; what it brought; cancel, try again, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session

from api.context import Context, Here
from api.page import loading, pictures, timeline, view
from api.page.answer import Given, PageRoute, go, show
from api.page.spec import copies, short
from api.routes import jobs as asked
from api.routes.results import stored_report
from core.ledger import tables
from core.ledger.jobs import queries, states
from core.spec.job import JobSpec
from core.spec.report import FamilyReport, Report, probed, stored

MAX_EVENTS = 5000
SHOWN_EVENTS = 200
router = APIRouter(prefix="/jobs/{job_id}", include_in_schema=False, route_class=PageRoute)


@router.get("")
def job_page(here: Here, request: Request, job_id: str) -> Response:
    """All of it."""
    with here.database.read() as session:
        job = asked.find(here, session, job_id)
        values = live_values(here, session, job) | _results(session, job) | _actions(here, request, job)
    return show(request, "job.html", **values)


@router.get("/actions")
def actions(here: Here, request: Request, job_id: str) -> Response:
    """What can be done with it, by its status."""
    with here.database.read() as session:
        return show(request, "job_actions.html", **_actions(here, request, asked.find(here, session, job_id)))


@router.get("/report.html")
@router.get("/{size}/report.html")
def report(here: Here, request: Request, job_id: str, size: str = "") -> Response:
    """The report, for a frame in which nothing of it can run or fetch; it links those of sizes by their folders."""
    return stored_report(here, job_id, request, f"{size}/report.html" if size else "report.html")


@router.post("/cancel")
def cancel(here: Here, job_id: str, form: Given) -> Response:
    """Stop it."""
    asked.cancel(here, job_id)
    return go(f"/jobs/{job_id}")


@router.post("/retry")
async def retry(here: Here, job_id: str, form: Given) -> Response:
    """Queue it again."""
    await asked.retry(here, job_id, Response())
    return go(f"/jobs/{job_id}")


@router.get("/delete")
def ask_delete(here: Here, request: Request, job_id: str) -> Response:
    """Whether that is meant."""
    with here.database.read() as session:
        job = asked.find(here, session, job_id)
        row = view.row_of(job, {}, None)
        count = len(queries.files(session, job_id))
    return show(request, "job_delete.html", job=row, files=count)


@router.post("/delete")
def delete(here: Here, job_id: str, form: Given) -> Response:
    """Forget it."""
    asked.delete_job(here, job_id)
    return go("/")


def live_values(here: Context, session: Session, job: tables.Job) -> dict[str, Any]:
    """What the part shows that changes while it runs."""
    events = queries.events(session, job.id, 0, MAX_EVENTS)
    [row] = view.rows_of(here, session, [job])
    report, sizes = stored(job.metrics), _sizes(job)
    trained = [] if report else pictures.trained(events)  # then the test rows have the word
    return {
        "job": row,
        "version": job.version,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "error": job.error if job.status == "failed" else None,
        "attempts": timeline.attempts(queries.attempts(session, job.id), events, job.status, sizes),
        "control_to_come": bool(job.spec.get("control")) and row.active,
        "control": timeline.controlled(events),
        "notes": timeline.notes(events),
        "charts": pictures.curves(events, str((job.spec.get("task") or {}).get("metric"))),
        "pictures": pictures.structures(events, report),
        "trained": trained,
        "growing": pictures.growing(trained),
        "to_train": [name for name in sizes if name and name not in {one.size for one in trained}]
        if row.active
        else [],
        "events": events[-SHOWN_EVENTS:],
        "count": len(events),
    }


def _one_of(report: Report | FamilyReport | None, made: Sequence[str]) -> str | None:
    """The size whose loading is shown."""
    recommended = report.recommended if isinstance(report, FamilyReport) else None
    return recommended if recommended in made else next(iter(made), None)


def _sizes(job: tables.Job) -> list[str | None]:
    """Names of its sizes, in their order; of one budget, one without a name."""
    try:
        return [budget.name for budget in JobSpec.model_validate(job.spec).budgets] or [None]
    except ValidationError:  # of another version
        return [None]


def _results(session: Session, job: tables.Job) -> dict[str, Any]:
    report = stored(job.metrics)
    files = queries.files(session, job.id)
    paths = {file.path for file in files}
    made = [size.name for size in report.sizes if size.result] if isinstance(report, FamilyReport) else []
    return {
        "id": job.id,
        "files": files,
        "has_report": "report.html" in paths,
        "sizes": [size for size in made if f"{size}/report.html" in paths],
        "family": report if isinstance(report, FamilyReport) else None,
        "family_chart": pictures.family(report) if isinstance(report, FamilyReport) else None,
        "report": report,
        "result": view.taken(report),
        "dense": view.dense_of(report) if report else None,
        "quality": view.quality(report),
        "snippets": loading.snippets(job.spec, paths, _one_of(report, made)),
        "warnings": report.warnings if report else [],
        "probe": probed(job.metrics),
    }


def _actions(here: Context, request: Request, job: tables.Job) -> dict[str, Any]:
    spec = short(job.spec)
    address = str(request.base_url).rstrip("/")
    return {
        "id": job.id,
        "can_cancel": job.status in ("queued", "running"),
        "can_retry": job.status in ("failed", "cancelled"),
        "can_delete": job.status in states.TERMINAL,
        "copies": copies(spec, address, here.settings.require_keys),
        "spec": spec,
    }
