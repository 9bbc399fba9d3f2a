"""What is stored of a job is read as it was written, by whichever version."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from core.spec.report import Report, stored
from tests.reports import report, result


def gone(before: Any, after: Any, path: str = "") -> list[str]:
    """What of one JSON value another has not, or has otherwise."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [line for key in before for line in gone(before[key], after.get(key, ...), f"{path}/{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [line for one, other in zip(before, after, strict=True) for line in gone(one, other, f"{path}/*")]
    return [] if type(before) is type(after) and before == after else [f"{path}: {before!r}, {after!r}"]


FIT = {"kept": True, "ms": 2.5, "dense_ms": 10.0, "of_dense": 0.25, "predicted": 0.25, "median_ms": 3.0}
RAN = {"ms": 2.5, "dense_ms": 10.0, "passes": 12, "spread": 0.01}
HERE = {"runtime": "torch", "device": "cpu", "device_name": "a CPU", "threads": 2, "batch_size": 1, "length": 64}
FULL = report(
    control=result(0.7),
    structure={"heads": [1], "neurons": [2], "dropped": [1], "hidden": 48},
    layout={name: {"worth": 0.5, "cost": 9, "heads": [1], "neurons": [2]} for name in ("regular", "free")},
    sparsity={"pattern": "2:4", "zeros": 2, "weights": 4, "gzip_bytes": 9, "says": "x", "gpu_latency_ms": None},
    curves={"teach": {"points": [{"step": 3, "accuracy": 1 / 3}], "kept_step": 3, "weights": [[3, 1.0, 1.0]]}},
    transfer=report()["transfer"] | {"weights": {"target": [[3, 0.1 + 0.2]]}, "auto": None, "share": ["masks"]},
    work_macs={"train": 1e9, "measure": 12},
    of_a_later_version={"x": [1]},
)


@pytest.mark.parametrize("said", [report(), FULL], ids=["early", "full"])
def test_nothing_is_lost_or_rounded_between_reading_and_writing(said: dict[str, Any]) -> None:
    said["budget"]["measured"] = HERE | RAN | {"again": None, "fits": [FIT | {"passes": 12, "spread": 1 / 7}]}
    assert not gone(json.loads(json.dumps(said)), json.loads(json.dumps(Report.model_validate(said).to_json())))


def test_what_there_is_not_is_not_written() -> None:
    said = Report.model_validate(report()).to_json()
    assert not {"dropped", "hidden"} & said["structure"].keys()
    assert "measured" not in said["budget"] and "given" not in said["results"]
    assert said["control"] is said["layout"] is said["sparsity"] is None


def test_a_report_is_not_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        Report.model_validate(report()).budget.met = 1


@pytest.mark.parametrize("metrics", [None, {}, {"accuracy": 0.9}, [], {"budget": {}}])
def test_what_this_version_cannot_read_is_none(metrics: Any) -> None:
    assert stored(metrics) is None and stored(report()) is not None
