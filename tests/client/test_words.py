"""The command line says a plan, and what a stage does, in the words of the server's page."""

from __future__ import annotations

from typing import Any

import pytest

from api import schemas
from api.page import prose, words
from tests.client.test_commands import PLAN
from topwork.cli import plan
from topwork.models import Plan
from topwork.progress import STAGES

SIZES = {"limit": None, "sizes": [{"name": "params-0.4", "limit": 4}, {"name": "latency_ms-3", "limit": None}]}
GPU = {"device": "cuda", "seconds": None, "basis": "nothing", "memory_bytes": 999}
BYTES = [{"cost": "bytes", "of": "model", "lowest": 1_500_000, "dense": 90_900_000}]


LATENCY = {
    **{"runtime": "onnx", "device": "cpu", "device_name": "a CPU", "threads": 1, "batch_size": 1, "length": 64},
    **{"lowest_ms": 1.0, "dense_ms": 11.0, "curve": [{"left": 0.5, "ms": 6.0}, {"left": 0.1, "ms": 2.0}]},
}
WITH_BYTES = [*PLAN["reach"], *BYTES]  # type: ignore[misc]


def test_what_a_budget_comes_to_is_told_in_bytes_and_milliseconds() -> None:
    told = [*plan.sentences(Plan.model_validate(PLAN | {"latency": [LATENCY], "reach": WITH_BYTES}))]
    # 90.9 MB less 4 bytes of each of 9,582,106 parameters; a tenth is left
    assert "That comes to a file of about 52.6 MB and about 2 ms a pass (onnx, batch of 1)." in told
    assert not any("comes to" in said for said in plan.sentences(Plan.model_validate(PLAN)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"latency": [LATENCY], "reach": WITH_BYTES},
        SIZES,
        {"estimate": GPU, "labels": [f"class {i}" for i in range(20)]},
        {"spec": {"model": "m", "budget": {"bytes": 20_000_000}}, "limit": 20_000_000, "reach": BYTES},
        {"limit": None, "spec": {"model": "m", "budget": {"latency_ms": 3.0}}},
    ],
)
def test_a_plan_is_told_as_on_the_page(changes: dict[str, Any]) -> None:
    told = PLAN | changes
    ours, theirs = Plan.model_validate(told), schemas.Plan.model_validate(told)
    assert [*plan.sentences(ours)] == [*prose.sentences(theirs)]


def test_stages_are_told_as_on_the_page() -> None:
    assert {name: said for name, (_, said) in words.STAGES.items()} == STAGES
