"""Whole jobs on the tiny model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.spec.job import JobSpec
from core.spec.report import Report
from tests.tiny import TARGET, done
from tests.tiny import spec_of as shortest

L0 = {
    "method": {"name": "l0"},
    "train": {"steps": {"teach": 30, "prune": 30, "recover": 30}, "learning_rate": 1e-3},
}
PDP = L0 | {"method": {"name": "pdp"}}


def spec_of(**changes: Any) -> JobSpec:
    """A job whose model learns something."""
    body: dict[str, Any] = {
        "task": {"data": {"dataset": TARGET}, "split": {"train": 60, "dev": 40}},
        "budget": {"params": 0.3},
        "train": {"steps": {"teach": 30, "recover": 30}, "learning_rate": 1e-3},
    }
    return shortest(**body | changes)


def go(spec: JobSpec, tiny: Path, tables: Mapping[str, Path], workdir: Path) -> tuple[Report, list[Any]]:
    """Run, and collect what it says."""
    said: list[Any] = []
    return done(spec, tiny, tables, workdir, said.append), said
