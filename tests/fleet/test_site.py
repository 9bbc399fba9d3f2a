"""How much of a job was done again, by its events."""

from __future__ import annotations

from typing import Any

from tests.fleet.site import repeated_s


def event(second: int, kind: str, **data: Any) -> dict[str, Any]:
    return {"at": f"2026-11-30T10:00:{second:02}Z", "type": kind, "data": data}


def test_what_was_done_again_is_what_the_next_attempt_began_before() -> None:
    steps = [event(2 + i, "progress", step=100 * i) for i in range(1, 5)]
    first = [
        event(0, "stage", stage="teach"),
        event(1, "progress", step=10),
        event(2, "stage", stage="recover"),
        *steps,
    ]
    again = [
        event(20, "stage", stage="data"),
        event(30, "stage", stage="recover"),
        event(31, "progress", step=250),
        event(32, "progress", step=350),
    ]
    assert repeated_s(first) == 0
    assert repeated_s([*first, *again]) == 1.5  # from step 400 back to 250, at 100 steps a second
