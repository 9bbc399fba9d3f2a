"""`/v1/jobs`: ask for a job, follow it, stop it."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from sqlalchemy.orm import Session

from api.body import StrictRoute
from api.checks import check
from api.context import Context, Here
from api.paging import After, Limit, cut, position
from api.plan import plan
from api.problems import RESPONSES, Problem, invalid
from api.schemas import Event, EventPage, Fault, Job, JobPage, Plan, Status, instant
from core.ledger import jobs, tables
from core.spec.job import JobSpec

POLL_AFTER_S = "2"

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="any unique string, a UUID say: a request that is sent twice with it makes one job",
    ),
]


@router.post("", status_code=202, responses={s: RESPONSES[s] for s in (413, 415, 422)})
def submit(here: Here, spec: JobSpec, response: Response, idempotency_key: IdempotencyKey = None) -> Job:
    """Ask for a pruning job. It is checked against the data and the model before it is accepted."""
    try:
        job, new = _submit(here, spec, idempotency_key)
    except jobs.IdempotencyConflictError:
        detail = "was used with another request; send a new key, or the same request"
        raise invalid([Fault(parameter="Idempotency-Key", detail=detail)]) from None
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    response.headers["Retry-After"] = POLL_AFTER_S
    if not new:
        response.headers["Idempotent-Replayed"] = "true"
    return _job(job)


@router.post(":validate", responses={s: RESPONSES[s] for s in (413, 415, 422)})
def validate(here: Here, spec: JobSpec) -> Plan:
    """What a job would do, without asking for it: the same checks, the rows it would use, the budgets in reach."""
    checked = check(here, spec)
    return plan(spec, checked.splits, checked.costs)


@router.get("", responses={422: RESPONSES[422]})
def list_jobs(here: Here, limit: Limit = 20, cursor: After = None, status: Status | None = None) -> JobPage:
    """Jobs, newest first."""
    before = position(cursor, "job")
    with here.database.read() as session:
        rows, following = cut(jobs.page(session, here.tenant_id, limit + 1, before, status), limit)
    return JobPage(items=[_job(row) for row in rows], next=following)


@router.get("/{job_id}", responses={404: RESPONSES[404]})
def get_job(here: Here, job_id: str, response: Response) -> Job:
    """One job; `Retry-After` says when to ask again, and is absent once nothing will change."""
    with here.database.read() as session:
        job = find(here, session, job_id)
    if job.status not in jobs.TERMINAL:
        response.headers["Retry-After"] = POLL_AFTER_S
    return _job(job)


@router.post("/{job_id}/cancel", responses={s: RESPONSES[s] for s in (404, 409)})
def cancel(here: Here, job_id: str) -> Job:
    """Stop a job. One that runs is `cancelling` until its worker has stopped it. To ask again is harmless."""
    with here.database.begin() as session:
        find(here, session, job_id)
        try:
            job = jobs.cancel(session, here.tenant_id, job_id)
        except jobs.IllegalTransitionError as error:
            raise Problem(409, f"The job has already {error.status}; only an unfinished job can be stopped.") from None
    assert job is not None
    return _job(job)


@router.get("/{job_id}/events", responses={s: RESPONSES[s] for s in (404, 422)})
def list_events(
    here: Here,
    job_id: str,
    after: Annotated[int, Query(ge=0, lt=2**63, description="`seq` of the last event seen")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> EventPage:
    """What happened to a job, oldest first: ask again with `after` to get what came since."""
    with here.database.read() as session:
        find(here, session, job_id)
        rows = jobs.events(session, job_id, after, limit)
    items = [Event(seq=row.seq, type=row.type, data=row.data, at=instant(row.at)) for row in rows]
    return EventPage(items=items, after=items[-1].seq if items else after)


def find(here: Context, session: Session, job_id: str) -> tables.Job:
    """The job; raises a 404 Problem if there is none (or it is another tenant's)."""
    job = jobs.find(session, here.tenant_id, job_id) if re.fullmatch("job_[0-9a-f]{32}", job_id) else None
    if job is None:
        raise Problem(404, "There is no such job; GET /v1/jobs lists what there is.")
    return job


def _submit(here: Context, spec: JobSpec, key: str | None) -> tuple[tables.Job, bool]:
    # A request sent again gets its job, even if it would be refused today.
    if key is not None:
        with here.database.read() as session:
            if (earlier := jobs.earlier(session, here.tenant_id, spec, key)) is not None:
                return earlier, False
    check(here, spec)
    with here.database.begin() as session:
        return jobs.create(session, here.tenant_id, spec, here.settings.max_attempts, key)


def _job(row: tables.Job) -> Job:
    here = f"/v1/jobs/{row.id}"
    links = {"self": here, "events": f"{here}/events", "files": f"{here}/files"}
    if row.status not in jobs.TERMINAL:
        links["cancel"] = f"{here}/cancel"
    return Job.model_validate(
        {
            "id": row.id,
            "status": row.status,
            "stage": row.stage,
            "progress": row.progress,
            "eta_s": row.progress.get("eta_s") if row.status == "running" else None,
            "attempt": row.attempt,
            "max_attempts": row.max_attempts,
            "metrics": row.metrics,
            "error": row.error,
            "spec": row.spec,
            "created_at": instant(row.created_at),
            "started_at": instant(row.started_at) if row.started_at is not None else None,
            "finished_at": instant(row.finished_at) if row.finished_at is not None else None,
            "links": links,
        }
    )
