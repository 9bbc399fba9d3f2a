"""What the child says, line by line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.spec.messages import (
    Alive,
    Done,
    Failed,
    Fault,
    Fitted,
    Message,
    Note,
    Saved,
    SizeTrained,
    StageBegun,
    StageProgress,
    line,
    parse,
)
from core.spec.report import Interval

HALF = Interval(value=0.5, low=0.4, high=0.6)

SAID: list[tuple[Message, dict[str, Any]]] = [
    (StageBegun(stage="data"), {"stage": "data"}),
    (StageBegun(stage="teach", control=True), {"stage": "teach", "control": True}),
    (
        StageProgress(stage="prune", step=3, steps=9, sparsity=0.5, dev={"accuracy": 0.25}, overall=0.1),
        {
            **{"stage": "prune", "step": 3, "steps": 9, "sparsity": 0.5, "dev": {"accuracy": 0.25}},
            **{"eta_s": None, "overall": 0.1},
        },
    ),
    (Saved(stage="part", folder="saved/7"), {"stage": "part", "folder": "saved/7"}),
    (Alive(), {}),
    (Note(message="\ud800 \0 \u2028"), {"message": "\ud800 \0 \u2028"}),
    (Fitted(heads=[(2, 4)], neurons=[(0, 32)]), {"heads": [[2, 4]], "neurons": [[0, 32]]}),
    (Fitted(channels=[(3, 8)], size="params-0.1"), {"channels": [[3, 8]], "size": "params-0.1"}),
    (
        SizeTrained(size="params-0.1", metric="f1", bytes=9, dense_bytes=90, quality=HALF, dense=HALF, change=HALF),
        {
            **{"size": "params-0.1", "metric": "f1", "bytes": 9, "dense_bytes": 90},
            **{name: {"value": 0.5, "low": 0.4, "high": 0.6} for name in ("quality", "dense", "change")},
        },
    ),
    (Done(metrics={"a": [1, 0.1]}), {"metrics": {"a": [1, 0.1]}}),
    (Failed(error=Fault(code="x", message="y")), {"error": {"code": "x", "message": "y"}}),
]


@pytest.mark.parametrize(("message", "said"), SAID, ids=lambda value: type(value).__name__)
def test_a_message_is_a_line_of_json_and_is_read_as_what_was_said(message: Message, said: dict[str, Any]) -> None:
    assert line(message).endswith("\n") and line(message).count("\n") == 1
    assert json.loads(line(message)) == {"event": message.event, **said}
    assert parse(line(message).encode()) == message


def test_a_loss_that_is_not_a_number_is_said_too() -> None:
    found = parse(line(StageProgress(stage="teach", step=1, steps=2, dev={"loss": float("nan")})).encode())
    assert isinstance(found, StageProgress) and found.dev is not None and found.dev["loss"] != found.dev["loss"]


def test_a_job_fails_though_nothing_says_why() -> None:
    assert parse(b'{"event": "failed"}') == Failed(error=Fault(code="failed", message="failed without a message"))


@pytest.mark.parametrize(
    "line",
    [b"", b"loading weights: 100%", b"[]", b"{}", b'{"event": "dance"}', b'{"event": "stage", "stage": "x"}', b"\xff"],
)
def test_what_is_no_message_is_none(line: bytes) -> None:
    assert parse(line) is None
