"""`Client` and `AsyncClient`: the same calls, without `await` and with it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial, update_wrapper
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

import httpx

from topwork import calls, hub, jobs, tracking
from topwork.errors import TopworkError
from topwork.requests import ANSWER_S
from topwork.steps import Async, Steps, Sync

SERVER = "http://127.0.0.1:8000"
HERE = "127.0.0.1", "localhost", "[::1]"
SERVER_VARIABLE, KEY_VARIABLE = "TOPWORK_SERVER", "TOPWORK_KEY"

P = ParamSpec("P")
T = TypeVar("T")
Driver = TypeVar("Driver", Sync, Async)


class Resource(Generic[Driver]):
    """A group of calls."""

    def __init__(self, driver: Driver) -> None:
        self.driver: Driver = driver


class Call(Generic[P, T]):
    """A call as a method: of a client, what it returns; of an asynchronous one, what it returns once awaited."""

    def __init__(self, call: Callable[P, Steps[T]]) -> None:
        self._call, self.__doc__ = call, call.__doc__

    @overload
    def __get__(self, owner: Resource[Sync], kind: Any = None) -> Callable[P, T]: ...
    @overload
    def __get__(self, owner: Resource[Async], kind: Any = None) -> Callable[P, Awaitable[T]]: ...
    @overload
    def __get__(self, owner: None, kind: Any = None) -> Self: ...
    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else update_wrapper(partial(_run, owner.driver, self._call), self._call)


def _run(driver: Any, call: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> Any:
    return driver.run(call(*args, **kwargs))


class Each(Generic[P, T]):
    """A call for a page at a time as a method that gives every item, page after page."""

    def __init__(self, page: Callable[Concatenate[str | None, P], Steps[tuple[list[T], str | None]]]) -> None:
        self._page, self.__doc__ = page, page.__doc__

    @overload
    def __get__(self, owner: Resource[Sync], kind: Any = None) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, owner: Resource[Async], kind: Any = None) -> Callable[P, AsyncIterator[T]]: ...
    @overload
    def __get__(self, owner: None, kind: Any = None) -> Self: ...
    def __get__(self, owner: Any, kind: Any = None) -> Any:
        if owner is None:
            return self
        each = self._each if isinstance(owner.driver, Sync) else self._each_awaited
        return update_wrapper(partial(each, owner.driver), self._page)

    def _each(self, driver: Sync, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        cursor: str | None = None
        while True:
            items, cursor = driver.run(self._page(cursor, *args, **kwargs))
            yield from items
            if cursor is None:
                return

    async def _each_awaited(self, driver: Async, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        cursor: str | None = None
        while True:
            items, cursor = await driver.run(self._page(cursor, *args, **kwargs))
            for item in items:
                yield item
            if cursor is None:
                return


class Jobs(Resource[Driver]):
    """Pruning jobs. A job is named by what the server answered, its id, the beginning or end of it, or its title."""

    submit = Call(jobs.submit)
    plan = Call(jobs.plan)
    list = Each(jobs.jobs)
    get = Call(jobs.get)
    wait = Call(jobs.wait)
    follow = Call(jobs.follow)
    cancel = Call(jobs.cancel)
    retry = Call(jobs.retry)
    delete = Call(jobs.delete)
    events = Each(jobs.events)
    curves = Call(jobs.curves)
    files = Call(jobs.outputs)
    download = Call(jobs.download)
    report = Call(jobs.report)
    track = Call(tracking.track)
    push = Call(hub.push)


class Data(Resource[Driver]):
    """Data sets. One is named by its id, or by the name of its file where no other has it."""

    upload = Call(calls.upload)
    list = Each(calls.datasets)
    get = Call(calls.dataset)
    preview = Call(calls.preview)
    delete = Call(calls.delete_dataset)


class Models(Resource[Driver]):
    """Models that are there without a download."""

    list = Call(calls.models)
    get = Call(calls.model)
    listing = Call(calls.model_list)


class Server(Resource[Driver]):
    """What the server has."""

    ready = Call(calls.ready)
    methods = Call(calls.methods)
    workers = Call(calls.workers)


def _arguments(server: str | None, key: str | None) -> dict[str, Any]:
    """Of an httpx client: the address and the key, by default those of the environment."""
    key = (key if key is not None else os.environ.get(KEY_VARIABLE, "")).strip()
    if not (key.isascii() and key.isprintable()):
        raise TopworkError(f"{KEY_VARIABLE}: holds a character that no key has; set it to what 'topwork keys' said")
    return {
        "base_url": server or os.environ.get(SERVER_VARIABLE) or SERVER,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": httpx.Timeout(ANSWER_S, connect=5),
        "mounts": {f"all://{host}": None for host in HERE},  # by no proxy
    }


def _opened(kind: Callable[..., T], server: str | None, key: str | None, transport: Any) -> T:
    try:
        return kind(**_arguments(server, key), transport=transport)
    except httpx.InvalidURL as error:
        raise TopworkError(f"{server}: is not an address: {error}") from error


class Client:
    """One server: `server` and `key` are by default those of TOPWORK_SERVER and TOPWORK_KEY, or this machine's."""

    def __init__(
        self,
        server: str | None = None,
        key: str | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.driver = Sync(_opened(httpx.Client, server, key, transport), pause)
        self.jobs, self.data, self.models = Jobs(self.driver), Data(self.driver), Models(self.driver)
        self.server = Server(self.driver)

    def run(self, steps: Steps[T]) -> T:
        """What a call returns."""
        return self.driver.run(steps)

    def close(self) -> None:
        """End all connections."""
        self.driver.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """As `Client`, with `await`; lists are asynchronous iterators."""

    def __init__(
        self,
        server: str | None = None,
        key: str | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.driver = Async(_opened(httpx.AsyncClient, server, key, transport), pause)
        self.jobs, self.data, self.models = Jobs(self.driver), Data(self.driver), Models(self.driver)
        self.server = Server(self.driver)

    async def close(self) -> None:
        """End all connections."""
        await self.driver.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
