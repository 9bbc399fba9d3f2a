"""`/metrics` for Prometheus. What the ledger knows is read when asked, so every API process says the same."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from uuid import uuid4

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.context import Here, operator
from api.http import problems
from api.http.auth import CALLER, NOBODY
from core.ledger import logs, tallies, workers
from core.ledger.database import Database
from core.ledger.tables import Attempt, Job, clock_ms

log = logging.getLogger("topwork.api")

REQUEST_ID = "X-Request-ID"
EVERY_S = 60.0
QUIET = ("/healthz", "/readyz", "/metrics")
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
STATUSES = ("queued", "running", "cancelling", "succeeded", "failed", "cancelled")

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    dependencies=[Depends(operator)],
)
def metrics(here: Here, request: Request) -> Response:
    """Jobs by status, outcomes, time in stages, lost leases, workers; HTTP requests of this process."""
    ledger = CollectorRegistry()
    ledger.register(Ledger(here.database))
    text = generate_latest(ledger) + generate_latest(request.app.state.requests.registry)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


class Ledger(Collector):
    """The ledger's numbers, of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> list[Metric]:
        """Nothing beforehand, or to register would read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        with self._database.read() as session:
            yield from _jobs(session)
            finished = CounterMetricFamily("topwork_jobs_finished", "Jobs that have ended", labels=["outcome"])
            for outcome, (count, _) in tallies.totals(session, "finished").items():
                finished.add_metric([outcome], count)
            yield finished
            stages = SummaryMetricFamily("topwork_stage_seconds", "Time spent in stages", labels=["stage"])
            for stage, (count, seconds) in tallies.totals(session, "stage").items():
                stages.add_metric([stage], count, seconds)
            yield stages
            webhooks = CounterMetricFamily("topwork_webhooks", "Messages to webhooks", labels=["outcome"])
            for outcome, (count, _) in tallies.totals(session, "webhook").items():
                webhooks.add_metric([outcome], count)
            yield webhooks
            failed = CounterMetricFamily("topwork_jobs_failed", "Jobs that have failed", labels=["code"])
            for code, (count, _) in tallies.totals(session, "failed").items():
                failed.add_metric([code], count)
            yield failed
            scrubbed = CounterMetricFamily("topwork_files_scrubbed", "Stored files read again", labels=["outcome"])
            for outcome, (count, _) in tallies.totals(session, "scrub").items():
                scrubbed.add_metric([outcome], count)
            yield scrubbed
            silent, _ = tallies.totals(session, "lease_lost").get("", (0, 0.0))
            yield CounterMetricFamily("topwork_leases_lost", "Jobs taken from workers that fell silent", value=silent)
            others = CounterMetricFamily("topwork_attempts_ended", "Attempts that said nothing final", labels=["cause"])
            for cause, (count, _) in tallies.totals(session, "attempt_ended").items():
                others.add_metric([cause], count)
            yield others
            fleet = workers.Fleet(session)
            unserved = sum(count for spec, count in workers.queued(session) if fleet.lacks(spec))
        yield GaugeMetricFamily("topwork_queue_unserved", "Queued jobs that no living worker can run", value=unserved)
        yield GaugeMetricFamily("topwork_workers", "Workers heard of lately", value=len(fleet.workers))
        slots = sum(worker.slots for worker, _ in fleet.workers)
        yield GaugeMetricFamily("topwork_worker_slots", "Their slots", value=slots)


def _jobs(session: Session) -> Iterator[Metric]:
    counts = dict(session.execute(select(Job.status, func.count()).group_by(Job.status)).tuples().all())
    jobs = GaugeMetricFamily("topwork_jobs", "Jobs by status", labels=["status"])
    for status in STATUSES:
        jobs.add_metric([status], counts.get(status, 0))
    yield jobs
    again = select(func.max(Attempt.finished_at)).where(Attempt.job_id == Job.id).scalar_subquery()
    oldest = session.scalar(select(func.min(func.coalesce(again, Job.created_at))).where(Job.status == "queued"))
    waiting_s = (clock_ms(session) - oldest) / 1000 if oldest is not None else 0.0
    yield GaugeMetricFamily(
        "topwork_queue_oldest_seconds", "For how long the job has been queued that waits the longest", value=waiting_s
    )


class Requests:
    """Counts the requests of this process; the label tells processes behind one address apart."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["process", "method", "route", "status"]
        self._count = Counter("topwork_http_requests", "HTTP requests", labels, registry=self.registry)
        self._seconds = Histogram(
            "topwork_http_seconds", "Time to the end of the answer", ["process", "route"], registry=self.registry
        )

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """One request that was answered."""
        route = getattr(scope.get("route"), "path", "")
        method = scope["method"] if route and scope["method"] in METHODS else ""  # or anybody could make labels
        self._count.labels(str(os.getpid()), method, route, str(status)).inc()
        self._seconds.labels(str(os.getpid()), route).observe(seconds)


class Measured:
    """ASGI middleware around all others."""

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self.app, self.requests = app, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started, status, answering = time.perf_counter(), 500, False
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request = given if re.fullmatch(r"[\w.:-]{1,100}", given, re.ASCII) else uuid4().hex

        async def watched(message: Message) -> None:
            nonlocal status, answering
            if message["type"] == "http.response.start":
                status, answering = message["status"], True
                MutableHeaders(scope=message)[REQUEST_ID] = request
            await send(message)

        with logs.bound(request=request):
            try:
                await self.app(scope, receive, watched)
            except Exception as error:
                problem = problems.unexpected(error)
                if not answering:
                    await problems.response(problem)(scope, receive, watched)
            finally:
                seconds = time.perf_counter() - started
                self.requests.count(scope, status, seconds)
                _log(scope, status, seconds)


def _log(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "")
    level = logging.ERROR if status >= 500 else logging.DEBUG if route in QUIET else logging.INFO
    facts = {"method": scope["method"] if scope["method"] in METHODS else "", "route": route, "status": status}
    job = scope.get("path_params", {}).get("job_id", "")
    facts |= {"ms": round(seconds * 1000, 1), "tenant": scope.get(CALLER, NOBODY).tenant_id}
    log.log(level, "request", extra=facts | ({"job": job} if re.fullmatch("job_[0-9a-f]{32}", job) else {}))


class Seldom(logging.Filter):
    """Lets through what begins alike once in `EVERY_S`: whoever connects could make such lines, and fill the disk."""

    def __init__(self) -> None:
        super().__init__()
        self._due: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        start, now = str(record.msg)[:30], time.monotonic()
        if now < self._due.get(start, 0.0):
            return False
        self._due = {other: due for other, due in self._due.items() if due > now} | {start: now + EVERY_S}
        return True


def log_to_stderr(how: str) -> None:
    """Every line of this process in one form, uvicorn's too; ours of requests stands for its own."""
    logs.configure(how)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).filters = [Seldom()]
    logging.getLogger("uvicorn").propagate = True
    logging.getLogger("uvicorn.access").disabled = True
