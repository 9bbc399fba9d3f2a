"""Reading for requests: so many processes at once, half of them for one tenant at most. Who waits holds no thread."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import ParamSpec, TypeVar
from weakref import WeakValueDictionary

from anyio import CapacityLimiter, to_thread

from api.http.problems import Problem
from core.ledger.settings import Settings
from core.rows.survey import Survey

P = ParamSpec("P")
T = TypeVar("T")

WAIT_S = 60.0
SURVEYS = 128  # that are remembered: some 50 kB each at most


class Readers:
    """One an app."""

    def __init__(self, settings: Settings) -> None:
        self._share = max(1, settings.max_readers // 2)
        self._all = asyncio.Semaphore(settings.max_readers)
        self._threads = CapacityLimiter(settings.max_readers)  # of their own: requests need the others
        self._of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._surveys: OrderedDict[str, Survey] = OrderedDict()

    async def run(self, tenant_id: str, read: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """What `read`, which starts one process and waits for it, returns; a 503 Problem if its turn does not come."""
        async with self._turn(tenant_id):
            return await to_thread.run_sync(partial(read, *given, **named), limiter=self._threads)

    async def survey(self, tenant_id: str, key: str, read: Callable[[], Survey]) -> Survey:
        """The same, of what is the same whenever `key` is: remembered, so that a job is read once to plan and ask."""
        found = self._surveys.get(key)
        if found is None:
            found = self._surveys[key] = await self.run(tenant_id, read)
            if len(self._surveys) > SURVEYS:
                self._surveys.popitem(last=False)
        self._surveys.move_to_end(key)
        return found

    @asynccontextmanager
    async def _turn(self, tenant_id: str) -> AsyncIterator[None]:
        own = self._of.setdefault(tenant_id, asyncio.Semaphore(self._share))
        try:
            async with asyncio.timeout(WAIT_S):
                await own.acquire()
                try:
                    await self._all.acquire()
                except BaseException:
                    own.release()
                    raise
        except TimeoutError:
            detail = "Other data is being read, as much as may be at once; try again."
            raise Problem(503, detail, headers={"Retry-After": "10"}) from None
        try:
            yield
        finally:
            self._all.release()
            own.release()
