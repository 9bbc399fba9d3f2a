"""Waiting for jobs to change: one query a tick for all who wait, and no connection or thread held in between."""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from core.ledger.database import Database
from core.ledger.jobs import queries

log = logging.getLogger(__name__)

TICK_S = 0.3


class Watch:
    """One a process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: set[tuple[str, int, asyncio.Future[None]]] = set()
        self._task: asyncio.Task[None] | None = None

    async def change(self, job_id: str, version: int, within_s: float) -> bool:
        """Waits until the job's version is another one, or the job is gone; False if the time was over before."""
        waiter = (job_id, version, asyncio.get_running_loop().create_future())
        self._waiting.add(waiter)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look(), context=Context())  # of no one request
        try:
            await asyncio.wait_for(waiter[2], within_s)
            return True
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(waiter)

    async def _look(self) -> None:
        while self._waiting:
            asked = tuple(self._waiting)
            try:
                versions = await run_in_threadpool(self._versions, {job_id for job_id, _, _ in asked})
            except SQLAlchemyError as error:  # those who wait go on to wait, and hear of it when they read
                log.warning("the database is away: %s", error)
            else:
                for job_id, version, future in asked:
                    if versions.get(job_id) != version and not future.done():
                        future.set_result(None)
            await asyncio.sleep(TICK_S)

    def _versions(self, ids: set[str]) -> dict[str, int]:
        with self._database.read() as session:
            return queries.versions(session, ids)
