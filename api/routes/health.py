"""`/healthz`: the process answers. `/readyz`: every part that it needs is there."""

from __future__ import annotations

import asyncio
import logging
import time

import redis
from fastapi import APIRouter, Request
from redis.backoff import NoBackoff
from redis.retry import Retry
from starlette.concurrency import run_in_threadpool

from api.context import Context, Here
from api.http.problems import RESPONSES, Problem
from api.schemas import Fault, Health, ProblemDetails, Readiness
from core.ledger.files.scratch import scratch
from core.ledger.files.storage import StorageAwayError

log = logging.getLogger(__name__)

BROKER_TIMEOUT_S = 1.0
HOLD_S = 5.0  # what was found is told to all who ask: it writes to the storage, and nobody needs a key to ask

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> Health:
    """Always 200 while the process lives."""
    return Health()


@router.get("/readyz", responses={503: {**RESPONSES[404], "model": ProblemDetails, "description": "Not ready"}})
async def readyz(request: Request, here: Here) -> Readiness:
    """Whether database, broker and storage can be used; 503 names each that cannot. An outcome holds for 5 s."""
    if faults := await request.app.state.probes.faults(here):
        raise Problem(
            503, "Not ready; see 'errors' for what is missing.", faults, headers={"Retry-After": f"{HOLD_S:g}"}
        )
    return Readiness(parts=dict.fromkeys(("database", "broker", "storage"), "ok"))


class Probes:
    """One an app: one request at a time looks, and what it found holds for `HOLD_S`."""

    def __init__(self) -> None:
        self._looking = asyncio.Lock()
        self._found: list[Fault] = []
        self._until = 0.0

    async def faults(self, here: Context) -> list[Fault]:
        """What is missing."""
        async with self._looking:
            if time.monotonic() >= self._until:
                self._found = await run_in_threadpool(_look, here)
                self._until = time.monotonic() + HOLD_S
            return self._found


def _look(here: Context) -> list[Fault]:
    faults = []
    for part, probe in {"database": _database, "broker": _broker, "storage": _storage}.items():
        try:
            probe(here)
        except Exception as error:
            log.warning("%s is not ready: %s", part, error)
            told = isinstance(error, _NotReadyError | StorageAwayError)
            reason = str(error) if told else f"cannot be reached ({type(error).__name__})"
            faults.append(Fault(parameter=part, detail=reason))
    return faults


class _NotReadyError(Exception):
    """A reason that may be told."""


def _database(here: Context) -> None:
    if (fault := here.database.schema_fault()) is not None:
        raise _NotReadyError(fault)


def _broker(here: Context) -> None:
    url = here.settings.broker.replace("redis+socket://", "unix://", 1)
    client = redis.Redis.from_url(
        url, socket_timeout=BROKER_TIMEOUT_S, socket_connect_timeout=BROKER_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
    )
    with client:
        client.ping()


def _storage(here: Context) -> None:
    with scratch(here.settings) as folder:
        probe = folder / "probe"
        probe.write_text("Topwork was here, to see whether it can write.")
        sha256, _ = here.storage.put(probe)
        here.storage.delete(sha256)
