"""What many look at is drawn once: a hundred who watch one job cost about what their event streams cost."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextvars import Context

from starlette.concurrency import run_in_threadpool

MOST = 64  # that are kept: some 50 kB each at most


class Shared:
    """One a process. What is kept under a key has to be the same for all who ask for it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, asyncio.Task[str]] = OrderedDict()

    async def get(self, key: Hashable, draw: Callable[[], str]) -> str:
        """What was drawn under the key, or is being drawn; raises what `draw` raises, which is tried anew then."""
        task = self._kept.get(key)
        if task is None:
            task = asyncio.create_task(run_in_threadpool(draw), context=Context())  # of no one request
            self._kept[key] = task
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)
        try:
            return await asyncio.shield(task)
        except Exception:
            self._kept.pop(key, None)
            raise
