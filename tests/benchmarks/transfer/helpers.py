"""Cells that several tests use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.transfer import table
from benchmarks.transfer.cells import (
    ARMS,
    STEPS,
    Cell,
    steps_of,
)

YELP = Cell("movies->yelp", 100, 0.05, "none", 0)
FEW = {"teach": 2, "prune": 4, "recover": 2}


def vars_of(cell: Cell) -> dict[str, Any]:
    """A cell's fields."""
    return {name: getattr(cell, name) for name in ("pair", "rows", "kept", "arm", "seed")}


def line(cell: Cell, pruned: float, dense: float = 0.9, steps: Mapping[str, int] = STEPS) -> dict[str, Any]:
    """A run's line, as far as the table reads it."""
    return {
        "cell": vars_of(cell),
        "steps": steps_of(ARMS[cell.arm], steps),
        "metric": "accuracy",
        "pruned": {name: {"value": pruned} for name in table.METRICS},
        "dense": {name: {"value": dense} for name in table.METRICS},
        "fraction": 0.0499,
        "model": "tiny",
        "environment": {"device": "CPU"},
        "revision": "abc",
    }
