"""`/v1/jobs`: ask for a job, follow it, stop it, try it again, forget it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any
from zlib import crc32

from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import StringConstraints, ValidationError
from sqlalchemy import Row
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.routing import Match, Route
from starlette.types import Scope

from api.context import Context, Here, context
from api.http.body import StrictRoute
from api.http.faults import faults_of
from api.http.paging import After, Limit, cut, position
from api.http.problems import RESPONSES, Problem, invalid
from api.planning import hub, names
from api.planning.checks import Checked, check, data_faults, still_there
from api.planning.columns import find_columns
from api.planning.plan import plan
from api.schemas import Accepted, Delivery, Fault, Job, JobPage, Plan, Status, instant
from core.ledger import quotas, tables, webhooks, workers
from core.ledger.jobs import owner, queries, states
from core.spec import shorthand
from core.spec.job import JobSpec

log = logging.getLogger("topwork.api")

POLL_AFTER_S = "2"
WAITING_S = 5.0  # how often a long poll looks again why a job waits
GO_BY = 20  # finished jobs that an estimate goes by
ID = re.compile("job_[0-9a-f]{32}")


class JobRoute(StrictRoute):
    """Where a specification cannot be read, its data is looked at all the same, so that all faults come at once."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError as error:
                faults = faults_of(error)
                wrong = {(one.pointer or "/").split("/")[1] for one in faults}
                more = await data_faults(await context(request), error.body, wrong) if self.body_field else []
                raise invalid([*faults, *more]) from None

        return answer


router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=JobRoute)

TARGET = {
    "model": "all-minilm-l6-v2",
    "task": {
        "data": {"dataset": "ds_0192f0c1e0a77c5fb0a6c3a1d2e4f5a6"},
        "split": {"train": 100, "dev": 100},
        "text": ["text"],
        "label": "label",
    },
    "budget": {"params": 0.1, "of": "encoder"},
}

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

Spec = Annotated[
    JobSpec,
    Body(
        openapi_examples={
            "alone": {"summary": "A tenth of the encoder", "value": TARGET},
            "transfer": {
                "summary": "With related data, ahead of other jobs, and a call when it has ended",
                "value": {
                    **TARGET,
                    "sources": [{"data": {"dataset": "ds_0192f0c1e0a77c5fb0a6c3a1d2e4f5a7"}, "label": "label"}],
                    "transfer": {"coupling": "teacher"},
                    "priority": 8,
                    "labels": {"team": "search"},
                    "webhook": {"url": "https://example.org/hooks/topwork"},
                },
            },
        }
    ),
]
Labels = Annotated[
    Sequence[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./-]{1,63}:[^\x00]{0,200}$")]],
    Query(max_length=20, description="`key:value`, of the specification's `labels`"),
]


@router.post(
    "",
    status_code=202,
    response_model_exclude_unset=True,
    responses={s: RESPONSES[s] for s in (413, 415, 422, 429, 503)},
)
async def submit(here: Here, spec: Spec, response: Response, idempotency_key: IdempotencyKey = None) -> Accepted:
    """Ask for a pruning job. It is checked against the data and the model before it is accepted."""
    try:
        job, new = await _submit(here, spec, idempotency_key)
    except owner.IdempotencyConflictError:
        detail = "was used with another request; send a new key, or the same request"
        raise invalid([Fault(parameter="Idempotency-Key", detail=detail)]) from None
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    if job.status not in states.TERMINAL:
        response.headers["Retry-After"] = POLL_AFTER_S
    if not new:
        response.headers["Idempotent-Replayed"] = "true"
    secret = {"webhook_secret": job.webhook_secret} if job.webhook_secret is not None else {}
    answer = await run_in_threadpool(_answered, here, job)
    return Accepted.model_validate(answer.model_dump() | secret)


@router.post(":validate", responses={s: RESPONSES[s] for s in (413, 415, 422, 503)})
async def validate(here: Here, spec: Spec, request: Request) -> Plan:
    """What a job would do, without asking for it: the same checks, the rows it would use, the budgets in reach.

    Data that it names of a hub is fetched, as for the job, and then is there.
    """
    found = await planned(here, spec)
    return found.model_copy(update={"notes": [*shorthand.said(await request.json()), *found.notes]})


async def planned(here: Context, spec: JobSpec) -> Plan:
    """What a job would do; raises a 422 Problem."""
    spec, notes = await _whole(here, spec)
    found = await run_in_threadpool(_plan, here, spec, await check(here, spec))
    return found.model_copy(update={"notes": [*notes, *found.notes]})


async def _whole(here: Context, asked: JobSpec) -> tuple[JobSpec, list[str]]:
    """The specification by ids and columns that there are, and what to know of the columns that were found."""
    spec = await hub.fetch(here, await names.resolve(here, asked))
    return await run_in_threadpool(find_columns, here, spec)


def _plan(here: Context, spec: JobSpec, checked: Checked) -> Plan:
    with here.database.read() as session:
        earlier, fleet = queries.first_successes(session, here.tenant_id, GO_BY), workers.Fleet(session)
    devices = [worker.device for worker, _ in fleet.workers]
    return plan(spec, checked, earlier, devices, fleet.lacks(spec.model_dump(mode="json")))


@router.get("", responses={422: RESPONSES[422]})
def list_jobs(
    here: Here, limit: Limit = 20, cursor: After = None, status: Status | None = None, label: Labels = ()
) -> JobPage:
    """Jobs, newest first; with `label`, those that have it. Give several to ask for all of them."""
    before, labels = position(cursor, "job"), [(key, value) for key, _, value in (one.partition(":") for one in label)]
    with here.database.read() as session:
        rows, following = cut(queries.page(session, here.tenant_id, limit + 1, before, status, labels), limit)
        return JobPage(items=_described(here, session, rows), next=following)


@router.get(
    "/{job_id}",
    response_model=Job,
    responses={304: {"description": "If-None-Match names the job as it is"}, **{s: RESPONSES[s] for s in (404, 422)}},
)
async def get_job(
    here: Here,
    job_id: str,
    wait: Annotated[float, Query(ge=0, le=60, description="seconds to wait for a change, if need be")] = 0.0,
    if_none_match: Annotated[str | None, Header(description="`ETag` of an earlier answer")] = None,
) -> Response:
    """One job. With `wait`, the answer comes once the job is not (or no longer) as `If-None-Match` says, or has ended.

    `Retry-After` says when to ask again, and is absent once nothing will change.
    """
    job, waiting = await _read(here, job_id)
    until, known = time.monotonic() + wait, if_none_match or _etag(job, waiting)
    while job.status not in states.TERMINAL and matches(known, _etag(job, waiting)):
        if (left := until - time.monotonic()) <= 0:
            break
        # The version does not know why a job waits.
        await here.watch.change(job_id, job.version, min(left, WAITING_S) if waiting else left)
        job, waiting = await _read(here, job_id)
    return await _answer(here, job, waiting, if_none_match)


class Poll(Route):
    """GET /v1/jobs/{id} as most ask it, without a query: what `get_job` answers, at a third of its cost.

    The rest is what FastAPI needs to find a route and its parameters; nothing is asked as often as this.
    """

    def __init__(self) -> None:
        super().__init__("/v1/jobs/{job_id}", poll)
        self.methods = {"GET"}

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See Route."""
        if scope["type"] != "http" or scope["method"] != "GET" or scope["query_string"]:
            return Match.NONE, {}
        match, child_scope = super().matches(scope)
        return match, {**child_scope, "route": self}  # as FastAPI does: the requests are counted by it


async def poll(request: Request) -> Response:
    """One job, as it is."""
    here = await context(request)
    job, waiting = await _read(here, request.path_params["job_id"])
    return await _answer(here, job, waiting, request.headers.get("if-none-match"))


@router.delete("/{job_id}", status_code=204, responses={s: RESPONSES[s] for s in (404, 409)})
def delete_job(here: Here, job_id: str) -> None:
    """Forget a job that has ended, with its events and files."""
    with here.database.begin() as session:
        find(here, session, job_id)
        try:
            owner.remove(session, here.tenant_id, job_id)
        except states.IllegalTransitionError as error:
            detail = f"The job is {error.status}; POST /v1/jobs/{job_id}/cancel, and delete it once it has ended."
            raise Problem(409, detail) from None


@router.post("/{job_id}/cancel", responses={s: RESPONSES[s] for s in (404, 409)})
def cancel(here: Here, job_id: str) -> Job:
    """Stop a job. One that runs is `cancelling` until its worker has stopped it. To ask again is harmless."""
    with here.database.begin() as session:
        find(here, session, job_id)
        try:
            job = owner.cancel(session, here.tenant_id, job_id)
        except states.IllegalTransitionError as error:
            raise Problem(409, f"The job has already {error.status}; only an unfinished job can be stopped.") from None
        if job is None:  # deleted meanwhile
            raise no_such_job()
        return _described(here, session, [job])[0]


@router.post("/{job_id}/retry", status_code=202, responses={s: RESPONSES[s] for s in (404, 409, 422, 429)})
async def retry(here: Here, job_id: str, response: Response) -> Job:
    """Queue a job again that failed or was cancelled, checked as at first. It goes on where it had saved its state."""
    job = await run_in_threadpool(_found, here, job_id)
    try:
        spec = JobSpec.model_validate(job.spec)
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, problem["loc"])) or "the job" for problem in error.errors()}))
        detail = f"This version of Topwork cannot read what the job asks for ({fields}); ask for a new one."
        raise Problem(409, detail) from None
    if job.status in ("failed", "cancelled"):
        await check(here, spec)
    response.headers["Retry-After"] = POLL_AFTER_S
    return await run_in_threadpool(_retry, here, job_id, spec)


def _retry(here: Context, job_id: str, spec: JobSpec) -> Job:
    with here.database.begin() as session:
        quotas.check_queue(session, here.tenant_id, here.caller.key_id, here.settings)
        try:
            again = owner.retry(session, here.tenant_id, job_id, here.settings.max_attempts, here.caller.key_id)
        except states.IllegalTransitionError as error:
            detail = f"The job is {error.status}; only one that failed or was cancelled can be tried again."
            raise Problem(409, detail) from None
        still_there(here, session, spec)
        if again is None:
            raise no_such_job()
        return _described(here, session, [again])[0]


def _found(here: Context, job_id: str) -> tables.Job:
    with here.database.read() as session:
        return find(here, session, job_id)


def find(here: Context, session: Session, job_id: str) -> tables.Job:
    """The job; raises a 404 Problem if there is none (or it is another tenant's)."""
    job = queries.find(session, here.tenant_id, job_id) if ID.fullmatch(job_id) else None
    if job is None:
        raise no_such_job()
    return job


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the header names the tag, compared weakly (RFC 9110, 13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag.removeprefix("W/") in tags or tags == ["*"]


async def _read(here: Context, job_id: str) -> tuple[Row[Any], str | None]:
    """The job, and why it waits."""
    job = await here.polls.get((here.tenant_id, job_id)) if ID.fullmatch(job_id) else None
    if job is None:
        raise no_such_job()
    return job, await run_in_threadpool(_why, here, job) if job.status == "queued" else None


def _why(here: Context, job: Row[Any]) -> str:
    with here.database.read() as session:
        return why_waiting(here, session, [job])[job.id]


def why_waiting(here: Context, session: Session, rows: Sequence[tables.Job | Row[Any]]) -> dict[str, str]:
    """Why each of the tenant's jobs that are queued waits: by its id."""
    queued = [row for row in rows if row.status == "queued"]
    if not queued:
        return {}
    fleet, settings = workers.Fleet(session), here.settings
    keys = {(row.key_id, row.attempt > 0) for row in queued}
    full = {(key, begun): quotas.holds_back(session, here.tenant_id, key, settings, begun=begun) for key, begun in keys}
    quota = {row.id: full[row.key_id, row.attempt > 0] for row in queued}
    return {row.id: row.progress.get("waiting") or fleet.why(row.spec, quota[row.id]) for row in queued}


async def _answer(here: Context, job: Row[Any], waiting: str | None, if_none_match: str | None) -> Response:
    headers = {"ETag": _etag(job, waiting), "Cache-Control": "private, no-cache"}
    if job.status not in states.TERMINAL:
        headers["Retry-After"] = POLL_AFTER_S
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    news = await run_in_threadpool(_news, here, job.id) if job.webhook_secret is not None else None
    return Response(_job(job, news, waiting).model_dump_json(), media_type="application/json", headers=headers)


def _news(here: Context, job_id: str) -> tables.Delivery | None:
    with here.database.read() as session:
        return webhooks.latest(session, [job_id]).get(job_id)


def _etag(job: Row[Any], waiting: str | None) -> str:
    return f'W/"{job.version}{f"-{crc32(waiting.encode()):x}" if waiting else ""}"'


def no_such_job() -> Problem:
    """404."""
    return Problem(404, "There is no such job; GET /v1/jobs lists what there is.")


async def _submit(here: Context, asked: JobSpec, key: str | None) -> tuple[tables.Job, bool]:
    # A request sent again gets its job, even if it would be refused today.
    if key is not None and (earlier := await run_in_threadpool(_earlier, here, asked, key)) is not None:
        return earlier, False
    spec, _ = await _whole(here, asked)
    await check(here, spec)
    job, new = await run_in_threadpool(_create, here, spec, asked, key)
    log.info("accepted", extra={"job": job.id})
    return job, new


def _earlier(here: Context, asked: JobSpec, key: str) -> tables.Job | None:
    with here.database.read() as session:
        return owner.earlier(session, here.tenant_id, asked, key)


def _create(here: Context, spec: JobSpec, asked: JobSpec, key: str | None) -> tuple[tables.Job, bool]:
    with here.database.begin() as session:
        if key is not None:  # a twin may have been faster since, and must not be counted against this one
            owner.lock_tenant(session, here.tenant_id)
            if (earlier := owner.earlier(session, here.tenant_id, asked, key)) is not None:
                return earlier, False
        quotas.check_queue(session, here.tenant_id, here.caller.key_id, here.settings)
        still_there(here, session, spec)
        return owner.create(session, here.tenant_id, spec, here.settings.max_attempts, key, here.caller.key_id, asked)


def _answered(here: Context, job: tables.Job) -> Job:
    with here.database.read() as session:
        return _described(here, session, [job])[0]


def _described(here: Context, session: Session, rows: Sequence[tables.Job]) -> list[Job]:
    """Jobs as they are answered."""
    called = [row.id for row in rows if row.webhook_secret is not None]
    news = webhooks.latest(session, called) if called else {}
    waiting = why_waiting(here, session, rows)
    return [_job(row, news.get(row.id), waiting.get(row.id)) for row in rows]


def _delivery(row: tables.Delivery) -> Delivery:
    arrived = row.status is not None and 200 <= row.status < 300
    return Delivery(
        status="waiting" if row.due_at is not None else "delivered" if arrived else "given_up",
        attempts=row.tries,
        last_attempt_at=instant(row.tried_at) if row.tried_at is not None else None,
        last_status=row.status,
        next_attempt_at=instant(row.due_at) if row.due_at is not None else None,
    )


def _job(row: tables.Job | Row[Any], news: tables.Delivery | None, waiting: str | None) -> Job:
    here = f"/v1/jobs/{row.id}"
    links = {"self": here} | {part: f"{here}/{part}" for part in ("events", "metrics", "files")}
    if row.status == "succeeded":
        links |= {part: f"{here}/{part}" for part in ("report", "archive")}
    ended = row.status in states.TERMINAL
    if not ended:
        links["cancel"] = f"{here}/cancel"
    if row.status in ("failed", "cancelled"):
        links["retry"] = f"{here}/retry"
    return Job.model_validate(
        {
            "id": row.id,
            "status": row.status,
            "stage": row.stage,
            "waiting": waiting,
            "progress": row.progress,
            "eta_s": row.progress.get("eta_s") if row.status == "running" else None,
            "attempt": row.attempt,
            "max_attempts": row.max_attempts,
            "metrics": row.metrics,
            "error": row.error,
            "delivery": _delivery(news) if news and ended else None,  # else of an end that was none
            "spec": row.spec,
            "created_at": instant(row.created_at),
            "started_at": instant(row.started_at) if row.started_at is not None else None,
            "finished_at": instant(row.finished_at) if row.finished_at is not None else None,
            "links": links,
        }
    )
