"""Reads that come at once are made at once; none is answered from a read that began before it was asked for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Set

import pytest

from api.coalesce import Coalescer


def test_what_is_asked_during_a_read_is_read_by_the_next_one() -> None:
    reads, go, now = [], threading.Event(), {"a": 1}

    def read(keys: Set[str]) -> dict[str, int]:
        reads.append(set(keys))
        found = {key: now[key] for key in keys if key in now}
        assert go.wait(120)
        return found

    async def main() -> None:
        coalescer = Coalescer(read)
        first = asyncio.create_task(coalescer.get("a"))
        while not reads:
            await asyncio.sleep(0.001)
        now["a"] = 2  # after the first read has looked
        later = [asyncio.create_task(coalescer.get(key)) for key in ("a", "a", "b", "a")]
        later[3].cancel()
        await asyncio.sleep(0.01)
        go.set()
        assert await first == 1
        assert await asyncio.gather(*later[:3]) == [2, 2, None]

    asyncio.run(main())
    assert reads == [{"a"}, {"a", "b"}]


def test_an_error_reaches_all_who_asked_and_nobody_after() -> None:
    faults = [OSError("away")]

    def read(keys: Set[str]) -> dict[str, int]:
        if faults:
            raise faults.pop()
        return dict.fromkeys(keys, 1)

    async def main() -> None:
        coalescer = Coalescer(read)
        answers = await asyncio.gather(coalescer.get("a"), coalescer.get("b"), return_exceptions=True)
        assert [type(answer) for answer in answers] == [OSError, OSError]
        assert await coalescer.get("a") == 1

    asyncio.run(main())


@pytest.mark.parametrize("count", [1, 40])
def test_everybody_gets_their_own(count: int) -> None:
    async def main() -> list[int | None]:
        coalescer = Coalescer(lambda keys: {key: key * key for key in keys})
        return await asyncio.gather(*(coalescer.get(i) for i in range(count)))

    assert asyncio.run(main()) == [i * i for i in range(count)]
