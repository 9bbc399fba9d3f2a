"""`layout: auto`: both layouts are made, and the dev rows say which is taken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from core.domains.structure import Structure
from core.pruning.job import goal, layouts, run
from core.pruning.job.prepare import Prepared
from core.pruning.job.stages import Shrunk
from core.pruning.latency.runtimes import conditions
from core.pruning.latency.stopwatch import Reading, Stopwatch
from core.spec.errors import SpecError
from core.spec.messages import Message, Note, StageProgress
from core.spec.report import Interval
from tests.tiny import TARGET, done, rows, save_table, spec_of


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return {TARGET: save_table(tmp_path_factory.mktemp("rows") / "rows.parquet", rows(120))}


@pytest.mark.slow
@pytest.mark.parametrize("regular", [True, False])
def test_the_one_that_the_dev_rows_choose_is_written_and_a_resumed_job_chooses_alike(
    regular: bool, tiny: Path, table: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "not_worse", lambda _apart: regular)
    spec, said = spec_of(export={"layout": "auto"}), list[Message]()
    report = done(spec, tiny, table, tmp_path, said.append)
    assert report.layout and report.layout.on_dev
    assert bool(report.structure.dropped) == regular
    assert bool([*(tmp_path / "output").glob("*.py")]) != regular
    assert "Both layouts were made and trained" in (tmp_path / "output/report.html").read_text()
    steps = [(one.stage, one.step, one.steps) for one in said if isinstance(one, StageProgress)]
    recovered = [step for stage, step, every in steps if stage == "recover" and every == 8]
    assert recovered == sorted(recovered) and recovered[-1] == 8
    overall = [one.overall for one in said if isinstance(one, StageProgress)]
    assert overall == sorted(overall, key=lambda value: value or 0.0)
    layout = "regular" if regular else "free"
    assert [one.message for one in said if isinstance(one, Note)][-1].startswith(f"layout {layout}: regular less free")

    again = list[Message]()
    second = done(spec, tiny, table, tmp_path, again.append)
    assert not [one for one in again if isinstance(one, StageProgress)]
    assert second.results.pruned.test == report.results.pruned.test
    assert second.structure == report.structure


@pytest.mark.slow
def test_where_no_regular_one_is_as_small_the_free_one_is_made(
    tiny: Path, table: Mapping[str, Path], tmp_path: Path
) -> None:
    said = list[Message]()
    report = done(spec_of(export={"layout": "auto"}, budget={"params": 0.05}), tiny, table, tmp_path, said.append)
    assert report.layout is None
    notes = [one.message for one in said if isinstance(one, Note)]
    assert any(note.startswith("the free layout alone is made: out of reach") for note in notes)


@pytest.mark.slow
def test_where_a_regular_one_does_not_meet_its_time_the_free_one_is_made(
    tiny: Path, table: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrunk, said = run.shrink_laid, list[Message]()

    def missed(prepared: Prepared, *given: Any) -> Shrunk:
        if prepared.one.spec.export.layout == "regular":
            raise SpecError("/budget/latency_ms", "not met: too slow")
        return shrunk(prepared, *given)

    monkeypatch.setattr(run, "shrink_laid", missed)
    done(spec_of(export={"layout": "auto"}), tiny, table, tmp_path, said.append)
    assert "the free layout alone is made: not met: too slow" in [one.message for one in said if isinstance(one, Note)]
    assert (tmp_path / "output/model.safetensors").is_file()


@pytest.mark.slow
def test_each_layout_says_where_its_own_time_was_measured(
    tiny: Path, table: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(_watch: Stopwatch, structure: Structure) -> Reading:
        left = sum(map(len, structure.heads)) / 12 + sum(map(len, structure.neurons)) / 384
        return Reading(2.0 + 4.0 * left, 10.0, 2.0 + 4.0 * left, 0.0, 10)

    def fits(name: str) -> Any:
        return json.loads((tmp_path / "state" / f"{name}.json").read_text())["fits"]

    monkeypatch.setattr(layouts, "not_worse", lambda _apart: True)
    monkeypatch.setattr(Stopwatch, "measure", measured)
    spec = spec_of(export={"layout": "auto"}, budget={"speedup": 1.5})
    here = done(spec, tiny, table, tmp_path).budget.measured
    assert here and fits("latency") == fits("prune") != fits("regular-prune") == fits("regular-latency")

    for file in (tmp_path / "state").glob("regular-*"):  # killed before the regular one was decided on
        file.unlink()
    monkeypatch.setattr(goal, "conditions", lambda *given: replace(conditions(*given), device_name="another CPU"))
    there = done(spec, tiny, table, tmp_path).budget.measured
    assert there and (there.device_name, there.fits) == ("another CPU", here.fits)


@pytest.mark.parametrize(("value", "high", "taken"), [(0.01, 0.05, True), (-0.03, 0.02, False), (-0.01, -0.001, False)])
def test_regular_is_taken_where_it_is_not_told_to_be_worse(value: float, high: float, taken: bool) -> None:
    assert layouts.not_worse(Interval(value=value, low=-0.1, high=high)) == taken


@pytest.mark.parametrize("asked", [{"method": {"name": "l0"}}, {"budget": {"sparsity": 0.5}}, {"hidden_size": "trim"}])
def test_what_has_no_regular_layout_is_refused(asked: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        spec_of(export={"layout": "auto"}, **asked)
