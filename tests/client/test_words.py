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


@pytest.mark.parametrize(
    "changes",
    [
        {},
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
