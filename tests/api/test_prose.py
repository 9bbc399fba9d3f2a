"""A plan in sentences."""

from __future__ import annotations

from typing import Any

import pytest

from api.planning.prose import sentences
from api.schemas import Plan
from tests.client.test_commands import PLAN

SIZES = {"limit": None, "sizes": [{"name": "params-0.4", "limit": 4}, {"name": "latency_ms-3", "limit": None}]}
GPU = {"device": "cuda", "seconds": None, "basis": "nothing", "memory_bytes": 999}
BYTES = [{"cost": "bytes", "of": "model", "lowest": 1_500_000, "dense": 90_900_000}]
LATENCY = {
    **{"runtime": "onnx", "device": "cpu", "device_name": "a CPU", "threads": 1, "batch_size": 1, "length": 64},
    **{"lowest_ms": 1.0, "dense_ms": 11.0, "curve": [{"left": 0.5, "ms": 6.0}, {"left": 0.1, "ms": 2.0}]},
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "The budget, 10% of encoder parameters, is at most 1,064,678 parameters of 10,646,784 parameters; "),
        # 90.9 MB less 4 bytes of each of 9,582,106 parameters; a tenth is left
        (
            {"latency": [LATENCY], "reach": [*PLAN["reach"], *BYTES]},  # type: ignore[misc]
            "That comes to a file of about 52.6 MB and about 2 ms a pass (onnx, batch of 1, length 64).",
        ),
        (
            {"latency": [LATENCY], "reach": [*PLAN["reach"], *BYTES], "spec": PLAN["spec"] | {"vocabulary": "trim"}},  # type: ignore[misc, operator]
            "That comes to a file of at most 52.6 MB",
        ),
        (SIZES, "It makes 2 sizes, taught once: params-0.4 (at most 4), latency_ms-3."),
        ({"estimate": GPU}, "On a GPU it needs 999 B of memory at most; how long it takes, nothing tells yet."),
        ({"labels": [f"class {i}" for i in range(20)]}, "class 11 and 8 more apart, on a fresh head"),
        (
            {"labels": ["stars"], "head": "a fresh head for a number"},
            "It predicts stars, on a fresh head for a number.",
        ),
        (
            {"spec": {"model": "m", "budget": {"bytes": 20_000_000}}, "limit": 20_000_000, "reach": BYTES},
            "The budget, 20 MB, is at most 20 MB of 90.9 MB; the least that can be reached is 1.5 MB.",
        ),
        ({"limit": None, "spec": {"model": "m", "budget": {"latency_ms": 3.0}}}, "The budget is 3 ms; what of it can"),
    ],
)
def test_a_plan_is_told(changes: dict[str, Any], said: str) -> None:
    told = " ".join(sentences(Plan.model_validate(PLAN | changes)))
    assert said in told
    assert ("comes to" in told) == ("latency" in changes)
