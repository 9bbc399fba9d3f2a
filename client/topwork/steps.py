"""What a call does, apart from how: generators that yield requests, which a driver with or without `await` carries out.

So the calls of `Client` and `AsyncClient` are one text.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

T = TypeVar("T")


@dataclass(frozen=True)
class Send:
    """A request; its answer comes back."""

    method: str
    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fetch:
    """A GET whose body goes to the end of a file, if it is what was asked for; the answer without it comes back."""

    href: str
    headers: Mapping[str, str]
    part: Path


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Something that takes its time: in a thread of its own where others wait."""

    do: Callable[[], Any]


Steps = Generator[Send | Fetch | Pause | Work, Any, T]
FAULTS = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)  # go back into the call


class Sync:
    """Carries out calls one after the other."""

    def __init__(self, http: httpx.Client, pause: Callable[[float], None] = time.sleep) -> None:
        self.http, self._pause = http, pause

    def run(self, steps: Steps[T]) -> T:
        """What the call returns."""
        answer, error = None, None
        with closing(steps):
            while True:
                try:
                    effect = steps.throw(error) if error is not None else steps.send(answer)
                except StopIteration as end:
                    value: T = end.value
                    return value
                answer, error = None, None
                try:
                    answer = self._do(effect)
                except FAULTS as fault:
                    error = fault

    def _do(self, effect: Send | Fetch | Pause | Work) -> Any:
        match effect:
            case Send():
                return self.http.request(effect.method, effect.path, **effect.arguments)
            case Fetch():
                return self._fetch(effect)
            case Pause():
                return self._pause(effect.seconds)
            case Work():
                return effect.do()

    def _fetch(self, effect: Fetch) -> httpx.Response:
        # A redirect to a storage is followed without our key.
        with self.http.stream("GET", effect.href, headers=effect.headers, follow_redirects=True) as answer:
            if answer.status_code not in (200, 206):
                answer.read()
                return answer
            with effect.part.open("ab" if answer.status_code == 206 else "wb") as out:
                for chunk in answer.iter_raw():  # not gathered to larger ones, which a cut would lose
                    out.write(chunk)
            return answer


class Async:
    """Carries out calls while others go on."""

    def __init__(self, http: httpx.AsyncClient, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.http, self._pause = http, pause

    async def run(self, steps: Steps[T]) -> T:
        """What the call returns."""
        answer, error = None, None
        with closing(steps):
            while True:
                try:
                    effect = steps.throw(error) if error is not None else steps.send(answer)
                except StopIteration as end:
                    value: T = end.value
                    return value
                answer, error = None, None
                try:
                    answer = await self._do(effect)
                except FAULTS as fault:
                    error = fault

    async def _do(self, effect: Send | Fetch | Pause | Work) -> Any:
        match effect:
            case Send():
                return await self.http.request(effect.method, effect.path, **effect.arguments)
            case Fetch():
                return await self._fetch(effect)
            case Pause():
                return await self._pause(effect.seconds)
            case Work():
                return await asyncio.to_thread(effect.do)

    async def _fetch(self, effect: Fetch) -> httpx.Response:
        async with self.http.stream("GET", effect.href, headers=effect.headers, follow_redirects=True) as answer:
            if answer.status_code not in (200, 206):
                await answer.aread()
                return answer
            with effect.part.open("ab" if answer.status_code == 206 else "wb") as out:
                async for chunk in answer.aiter_raw():
                    out.write(chunk)
            return answer
