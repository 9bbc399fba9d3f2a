"""Reads that come while one is on its way are made together, by the next: the busier a process, the less one costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Set
from contextvars import Context
from typing import Generic, TypeVar

from starlette.concurrency import run_in_threadpool

K = TypeVar("K")
V = TypeVar("V")


class Coalescer(Generic[K, V]):
    """One a process and kind of read. A read starts after it was asked for, so that it sees what was written before."""

    def __init__(self, read: Callable[[Set[K]], Mapping[K, V]]) -> None:
        self._read = read
        self._waiting: list[tuple[K, asyncio.Future[V | None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """What there is under the key, or None. Raises what the read raises."""
        future: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), context=Context())  # of no one request
        return await future

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # requests that have arrived by now come along
            asked, self._waiting = self._waiting, []
            try:
                found = await run_in_threadpool(self._read, {key for key, _ in asked})
            except Exception as error:
                for _, future in asked:
                    if not future.done():
                        future.set_exception(error)
            else:
                for key, future in asked:
                    if not future.done():
                        future.set_result(found.get(key))
