"""Whole jobs that borrow: every way of transfer, own text, `auto`, and the control without."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from core.domains.network import TARGET as TARGET_HEAD
from core.pruning.job import run, state
from core.pruning.job.decide import NOTHING
from core.pruning.job.passes import Pass
from core.pruning.reading.read import read_inputs
from core.pruning.system.files import write_json
from core.spec.errors import SpecError
from core.spec.messages import Note, Saved, StageBegun, StageProgress
from tests.pruning.whole import L0, PDP, go, spec_of
from tests.tiny import SOURCE, TARGET, rows, save_table

TRANSFERS: list[dict[str, Any]] = [
    {"coupling": "joint"},
    {"coupling": "tied"},
    {"coupling": "joint", "weighting": "learned"},
    {"coupling": "teacher", "weighting": "learned"},
    {"coupling": "joint", "share": ["masks"]},
    {"coupling": "joint", "share": ["weights"]},
    {"coupling": "teacher", "stages": ["recover"]},
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("transfer", "method"),
    [(t, m) for t in TRANSFERS for m in ({}, L0) if m or t["coupling"] != "tied"]  # tied masks are learned masks
    + [({"coupling": "joint", "weighting": "learned"}, PDP), ({"coupling": "joint", "share": ["masks"]}, PDP)],
    ids=lambda value: value["method"]["name"] if "method" in value else "-".join(map(str, value.values())) or "fisher",
)
def test_every_way_of_transfer_ends_in_a_checkpoint_and_resumes(
    transfer: dict[str, Any], method: dict[str, Any], tiny: Path, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    source = {"data": {"dataset": SOURCE}, "label": "label"}
    train = {"train": {"steps": {"teach": 6, "recover": 6} | ({"prune": 12} if method else {})}}
    spec = spec_of(sources=[source], transfer=transfer, **method | train)
    report, _ = go(spec, tiny, tables, tmp_path)
    assert report.budget.met <= report.budget.limit
    weights = report.transfer.weights
    assert set(weights) == ({"target", "source 0"} if "weighting" in transfer else set())
    assert report.transfer.weighting == transfer.get("weighting", "fixed")
    for together in zip(*weights.values(), strict=True):
        assert sum(weight for _, weight in together) == pytest.approx(2, abs=1e-3)
    (tmp_path / "state/recover.json").unlink()
    again, said = go(spec, tiny, tables, tmp_path)
    assert {m.stage for m in said if isinstance(m, Saved)} == {"recover"}
    assert again.results.pruned.test == report.results.pruned.test
    for stage in ("teach", "prune"):  # what an earlier attempt took
        assert again.timings_s[stage] >= report.timings_s[stage] - 0.1


@pytest.mark.slow
def test_auto_settles_what_the_job_does_and_a_resumed_job_does_not_try_again(
    tiny: Path, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    source = {"data": {"dataset": SOURCE}, "label": "label"}
    report, said = go(spec_of(sources=[source]), tiny, tables, tmp_path)
    transfer = report.transfer
    assert transfer.asked == "auto"
    assert transfer.auto.chosen.startswith(transfer.coupling)
    assert transfer.sources == ([] if transfer.coupling == "none" else [0])
    assert [m.stage for m in said if isinstance(m, StageBegun)][:3] == ["data", "auto", "teach"]
    overall = [m.overall for m in said if isinstance(m, StageProgress)]
    assert overall == sorted(overall) and overall[-1] <= 1
    assert transfer.auto.why in unescape((tmp_path / "output/report.html").read_text())
    again, said = go(spec_of(sources=[source]), tiny, tables, tmp_path)
    assert not [m for m in said if isinstance(m, Saved)]
    assert again.transfer == transfer

    (tmp_path / "state/auto.json").write_text(
        json.dumps(
            {"choice": {"coupling": "none", "stages": [], "sources": []}, "why": "", "trials": [], "chosen": "none"}
        )
    )
    for left in ("teach", "prune", "recover"):
        (tmp_path / f"state/{left}.json").unlink()
    off, said = go(spec_of(sources=[source], control=True), tiny, tables, tmp_path)
    alone, _ = go(spec_of(), tiny, tables, tmp_path / "alone")
    assert off.results.pruned.test == alone.results.pruned.test == off.control.test
    assert (off.transfer.coupling, off.transfer.stages, off.transfer.sources) == ("none", [], [])
    assert said.count(StageBegun(stage="teach")) == 1  # it is its own control


@pytest.mark.slow
@pytest.mark.parametrize("fits", [True, False])
def test_the_report_names_the_stages_that_borrowed(
    fits: bool, tiny: Path, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    """None where all of the encoder fits the budget, so that nothing goes and nothing recovers: its own control."""
    spec = spec_of(
        task={
            "data": {"dataset": TARGET},
            "split": {"train": 60, "dev": 40},
            "unlabelled": {"data": {"dataset": SOURCE}},
        },
        budget={"params": 1.0 if fits else 0.5},
        train={"steps": {"teach": 4} if fits else {"teach": 4, "recover": 4}},
        transfer={"weighting": "learned"},
        control=fits,
    )
    report, said = go(spec, tiny, tables, tmp_path)
    transfer, page = report.transfer, unescape((tmp_path / "output/report.html").read_text())
    assert transfer.asked == "teacher" and said.count(StageBegun(stage="teach")) == 1
    wanted = ("none", [], False, "fixed") if fits else ("teacher", ["prune", "recover"], True, "learned")
    assert (transfer.coupling, transfer.stages, transfer.unlabelled, transfer.weighting) == wanted
    assert (NOTHING in report.warnings) == (Note(message=NOTHING) in said) == ("Nothing was borrowed" in page) == fits


def test_a_full_disk_costs_what_auto_found_and_not_the_job(
    tiny: Path, tables: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, value: Any) -> None:
        if path.name == "facts":
            raise OSError(28, "No space left on device", str(path))
        write_json(path, value)

    monkeypatch.setattr(state, "write_json", full)
    report, _ = go(spec_of(sources=[{"data": {"dataset": SOURCE}, "label": "label"}]), tiny, tables, tmp_path)
    assert report.transfer.auto.chosen.startswith(report.transfer.coupling)


def test_a_source_whose_labels_are_unrelated_is_text_in_every_stage(
    tiny: Path, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    source = {"data": {"dataset": SOURCE}, "label": "label"}
    everywhere = {"coupling": "teacher", "stages": ["teach", "prune", "recover"], "sources": [0]}
    (tmp_path / "state").mkdir()
    (tmp_path / "state/auto.json").write_text(
        json.dumps({"choice": everywhere, "why": "", "trials": [], "chosen": "", "related": [0.01], "as_text": [0]})
    )
    found, _ = go(spec_of(sources=[source]), tiny, tables, tmp_path)
    text, _ = go(
        spec_of(sources=[{"data": {"dataset": SOURCE}}], transfer={"coupling": "teacher"}), tiny, tables, tmp_path / "b"
    )
    labels, _ = go(spec_of(sources=[source], transfer={"coupling": "teacher"}), tiny, tables, tmp_path / "c")
    assert found.results.pruned.test == text.results.pruned.test
    assert text.curves["teach"] == found.curves["teach"] != labels.curves["teach"]


def test_a_control_that_cannot_be_made_costs_no_files(
    tiny: Path, tables: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = run.trained_and_measured

    def missed(one: Pass) -> run.Outcome:
        if one.control:
            raise SpecError("/budget/latency_ms", "not met: too slow")
        return measured(one)

    monkeypatch.setattr(run, "trained_and_measured", missed)
    source = {"data": {"dataset": SOURCE}, "label": "label"}
    asked = spec_of(sources=[source], transfer={"coupling": "teacher"}, control=True)
    report, said = go(asked, tiny, tables, tmp_path)
    assert report.control is None and (tmp_path / "output/model.safetensors").is_file()
    assert Note(message="without transfer nothing was made: not met: too slow") in said


def test_control_is_the_job_without_transfer(tiny: Path, tables: Mapping[str, Path], tmp_path: Path) -> None:
    source = {"data": {"dataset": SOURCE}, "label": "label"}
    report, said = go(
        spec_of(sources=[source], transfer={"coupling": "teacher"}, control=True), tiny, tables, tmp_path / "with"
    )
    alone, _ = go(spec_of(), tiny, tables, tmp_path / "without")
    assert report.control.test == alone.results.pruned.test
    assert alone.control is None
    for kind in (StageBegun, StageProgress):
        mine = [m.control for m in said if isinstance(m, kind) and m.stage != "export"]
        assert mine == sorted(mine) and {*mine} == {False, True}
    assert report.timings_s["control"] > 0
    overall = [m.overall for m in said if isinstance(m, StageProgress)]
    assert overall == sorted(overall) and overall[-1] > 0.9
    output = tmp_path / "with" / "output"
    assert "The same job without transfer ends at" in (output / "report.html").read_text()
    assert "report.html" in json.loads((output / "manifest.json").read_text())["files"]


def test_own_text_is_distilled_and_the_control_has_none_of_it(
    tiny: Path, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    task = {"data": {"dataset": TARGET}, "split": {"train": 60, "dev": 40}, "unlabelled": {"data": {"dataset": SOURCE}}}
    report, _ = go(spec_of(task=task, control=True), tiny, tables, tmp_path / "own")
    transfer = report.transfer
    assert (transfer.coupling, transfer.unlabelled, transfer.sources, transfer.auto) == ("teacher", True, [], None)
    assert (report.data.unlabelled, report.data.sources) == (300, [])
    alone, _ = go(spec_of(), tiny, tables, tmp_path / "alone")
    assert report.control.test == alone.results.pruned.test
    assert (alone.transfer.unlabelled, alone.data.unlabelled) == (False, 0)
    source = [{"data": {"dataset": SOURCE}}]
    same, _ = go(spec_of(sources=source, transfer={"coupling": "teacher"}), tiny, tables, tmp_path / "source")
    assert same.results.pruned.test == report.results.pruned.test and not same.transfer.unlabelled
    assert "300 rows" in (tmp_path / "own/output/report.html").read_text()
    assert "300 of its own without labels" in (tmp_path / "own/output/README.md").read_text()


def test_auto_weighs_own_text_beside_a_source(tiny: Path, tables: Mapping[str, Path], tmp_path: Path) -> None:
    own = save_table(tmp_path / "own.parquet", {"text": rows(80, seed=2)["text"]})
    unlabelled = "ds_" + "3" * 32
    task = {"data": {"dataset": TARGET}, "split": {"train": 60, "dev": 40}}
    task |= {"unlabelled": {"data": {"dataset": unlabelled}}}
    spec = spec_of(task=task, sources=[{"data": {"dataset": SOURCE}, "label": "label"}])
    report, _ = go(spec, tiny, {**tables, unlabelled: own}, tmp_path / "job")
    transfer = report.transfer
    assert transfer.asked == "auto" and transfer.coupling in ("none", "teacher")
    assert transfer.unlabelled == (transfer.coupling == "teacher")
    assert len(transfer.auto.related) == 1 and report.data.unlabelled == 80
    assert not [trial for trial in transfer.auto.trials if 1 in trial.sources]


def test_a_source_whose_rare_class_is_not_drawn_still_has_the_targets_labels(tiny: Path, tmp_path: Path) -> None:
    target, source = rows(60), rows(900, seed=1)
    for table, every in ((target, 3), (source, 300)):
        table["label"] = ["rare" if i % every == 2 else str(label) for i, label in enumerate(table["label"])]
    for name, table in ((TARGET, target), (SOURCE, source)):
        save_table(tmp_path / name, table)
    spec = spec_of(
        task={"data": {"dataset": TARGET}},
        sources=[{"data": {"dataset": SOURCE}, "label": "label"}],
        transfer={"coupling": "joint"},
        train={"steps": {"teach": 1, "recover": 1}, "batch_size": 2},
    )
    inputs, _ = read_inputs(spec, tiny, {name: tmp_path / name for name in (TARGET, SOURCE)})
    (found,) = inputs.sources
    assert len(found.rows) < 100 and (found.head, found.classes) == (TARGET_HEAD, 3)


@pytest.mark.slow
def test_source_with_other_labels_has_a_head_of_its_own(tiny: Path, tables: Mapping[str, Path], tmp_path: Path) -> None:
    """Three classes in the source, two in the target: the checkpoint knows the target's alone."""
    other = rows(300, seed=2)
    other["label"] = [f"class{i % 3}" for i in range(300)]
    save_table(tmp_path / "other.parquet", other)
    spec = spec_of(sources=[{"data": {"dataset": SOURCE}, "label": "label"}], transfer={"coupling": "sequential"})
    both = {TARGET: tables[TARGET], SOURCE: tmp_path / "other.parquet"}
    go(spec, tiny, both, tmp_path / "work")
    config = json.loads((tmp_path / "work/output/config.json").read_text())
    assert config["id2label"] == {"0": "neg", "1": "pos"}

    # A head that joins after the teacher is the same in a job that was interrupted there.
    late = spec.model_copy(update={"transfer": spec.transfer.model_copy(update={"stages": ["prune", "recover"]})})
    whole, _ = go(late, tiny, both, tmp_path / "late")
    for left in ("prune", "recover"):
        (tmp_path / f"late/state/{left}.json").unlink()
    again, said = go(late, tiny, both, tmp_path / "late")
    assert {m.stage for m in said if isinstance(m, Saved)} == {"prune", "recover"}
    assert again.structure == whole.structure
    assert again.results.pruned.test == whole.results.pruned.test
