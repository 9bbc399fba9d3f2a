"""`probe`: a job that only measures, and what every job in time tells those that come after it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from core.domains.channels.survey import reach_of
from core.domains.model_ref import ModelRef
from core.domains.transformer.model import read_model
from core.pruning.export.html_report import ms
from core.pruning.job.run import run
from core.pruning.latency import stopwatch
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from core.spec.messages import LatencyMeasured, Message, StageBegun
from core.spec.report import ProbeReport, probed
from tests.tiny import TARGET, rows, save_table, spec_of
from tests.tiny_images import KINDS, SIDE, save_pictures, save_tiny_resnet
from tests.tiny_images import spec_of as images_of


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return {TARGET: save_table(tmp_path_factory.mktemp("rows") / "rows.parquet", rows(120))}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "SECONDS", 0.05)


def run_probe(
    spec: JobSpec, model: Path, tables: Mapping[str, Path], workdir: Path
) -> tuple[ProbeReport, list[Message]]:
    said: list[Message] = []
    report = run(spec, ModelRef(model, spec.model), tables, workdir, said.append)
    assert isinstance(report, ProbeReport)
    assert probed(json.loads((workdir / "output/report.json").read_text())) == report
    assert [one.stage for one in said if isinstance(one, StageBegun)] == ["data"]
    return report, said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "runtimes"),
    [
        ({"budget": {"latency_ms": 1e-3, "runtime": "onnx", "batch_size": 2}}, ["onnx"]),  # though out of reach
        ({"budget": {"params": 0.5}, "export": {"formats": ["onnx-int8"]}}, ["torch", "onnx-int8"]),
    ],
)
def test_it_measures_what_the_budget_asks_and_trains_nothing(
    asked: dict[str, Any], runtimes: list[str], tiny: Path, table: Mapping[str, Path], tmp_path: Path
) -> None:
    report, said = run_probe(spec_of(probe=True, **asked), tiny, table, tmp_path)
    page = (tmp_path / "output/report.html").read_text()
    assert page.count("<polyline") == len(runtimes) and ms(report.latency[0].dense_ms) in page
    assert f"{page.count('<circle') / len(runtimes):g}" == f"{len(report.latency[0].curve) + 1}"
    assert [one.runtime for one in report.latency] == runtimes
    assert [one.latency for one in said if isinstance(one, LatencyMeasured)] == report.latency
    model = read_model(tiny).architecture.fingerprint
    assert {one.model for one in said if isinstance(one, LatencyMeasured)} == {model}
    for one in report.latency:
        assert one.batch_size == asked["budget"].get("batch_size", 1)
        assert 0 < one.lowest_ms <= min(point.ms for point in one.curve)
        assert [point.ms for point in one.curve] == sorted((point.ms for point in one.curve), reverse=True)
        assert max(point.ms for point in one.curve) <= one.dense_ms


@pytest.mark.slow
def test_an_image_model_has_the_name_that_a_plan_knows_it_by(tmp_path: Path) -> None:
    model = save_tiny_resnet(tmp_path / "resnet")
    tables = {TARGET: save_pictures(tmp_path / "pictures.parquet", 180)}
    spec = images_of(probe=True, budget={"speedup": 1.2, "runtime": "onnx"})
    report, said = run_probe(spec, model, tables, tmp_path / "work")
    names = {one.model for one in said if isinstance(one, LatencyMeasured)}
    assert names == {reach_of(model, SIDE, len(KINDS), 16).fingerprint}
    assert report.latency[0].length == SIDE


@pytest.mark.slow
def test_a_job_whose_budget_is_out_of_reach_tells_what_is_in_reach(
    tiny: Path, table: Mapping[str, Path], tmp_path: Path
) -> None:
    said: list[Message] = []
    with pytest.raises(SpecError, match="out of reach"):
        run(spec_of(budget={"latency_ms": 1e-3}), ModelRef(tiny, "tiny"), table, tmp_path, said.append)
    assert any(isinstance(one, LatencyMeasured) for one in said)
