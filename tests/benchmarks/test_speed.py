"""The tables of measured latencies say what was measured, and leave the rest open."""

from __future__ import annotations

from typing import Any

from benchmarks.budget import latency_table
from benchmarks.speed import INT8, table

ENVIRONMENT = {"environment": {"device": "a CPU"}}


def test_speed_ups_are_over_the_dense_model_of_the_same_run() -> None:
    def line(by: str, removed: float, ms: float, dense_ms: float, runtime: str = "torch") -> dict[str, Any]:
        cell = {"model": "minilm", "runtime": runtime, "batch": 1, "by": by, "removed": removed}
        return cell | {"ms": ms, "dense_ms": dense_ms} | ENVIRONMENT

    text = table(
        [
            line("dense", 0.0, 40.0, 41.0),
            line("fisher", 0.5, 20.0, 44.0),
            line("torch-pruning", 0.5, 22.0, 44.0),
            line("fisher", 0.95, 4.0, 40.0, INT8),
        ]
    )
    assert "| minilm | torch | 1 | 40.0 | 2.2x (2.0x) | – (–) | – (–) | – (–) |" in text
    assert "| minilm | onnx, int8 | 1 | – | – | – | – | 10.0x |" in text
    assert "The dense model against itself: 2.4% off on average" in text


def test_a_budget_that_no_structure_met_counts_as_not_held() -> None:
    row = {"runtime": "onnx", "batch": 1, "fits": 2, "met": 0.97, "again": 1.02, "predicted": 0.9, "model": "tiny"}
    text = latency_table([row | ENVIRONMENT, row | {"met": None, "again": None} | ENVIRONMENT])
    assert "| onnx | 1 | 1 of 2 | 0.970 (0.970) | 1.020 (1.020), 0 of 2 |" in text
