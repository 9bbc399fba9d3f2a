"""The benchmark of methods: every arm is a job, peers do what they say, runs go through, the front is the front."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.methods.__main__ import METHODS
from benchmarks.methods.peers import hard_mask
from benchmarks.methods.table import markdown
from benchmarks.transfer import data
from benchmarks.transfer.__main__ import main
from benchmarks.transfer.cells import (
    METHOD_ARMS,
    METHOD_ORDER,
    STEPS,
    Choice,
    plan,
    read_results,
    spec_of,
    steps_of,
)
from tests.tiny import rows, save_tiny_model


def test_every_planned_cell_is_a_job_of_equal_steps_but_those_with_less_recovery() -> None:
    cells = plan(Choice(), METHOD_ORDER)
    assert len(cells) == len(set(cells)) == 2 * 3 * (4 * 14 + 4 + 3)
    assert {cell.arm for cell in cells} == METHOD_ARMS.keys()
    for cell in cells[:14] + cells[-48:]:
        steps = {"alone": 200, "short": 335}.get(cell.arm.split("-")[-1], 1100)
        spec = spec_of(cell, STEPS)
        assert spec.method.name == METHOD_ARMS[cell.arm].method
        assert sum(steps_of(METHOD_ARMS[cell.arm], STEPS).values()) == steps


def test_hard_masks_are_hard_and_carry_no_gradient() -> None:
    weight = torch.randn(8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    half = hard_mask(weight, 40, "unstructured", 0.5)
    assert not half.requires_grad and sorted(half.unique().tolist()) == [0, 1] and int((half == 0).sum()) == 20
    assert hard_mask(weight, 2, "2:4", 0.5).unique().tolist() == [0.5, 1]


def line(arm: str, seed: int, points: float, seconds: float) -> dict[str, Any]:
    """A run, as far as the table reads it."""
    return {
        "cell": {"pair": "movies->yelp", "rows": 300, "kept": 0.1, "arm": arm, "seed": seed},
        "steps": steps_of(METHOD_ARMS[arm], STEPS),
        "pruned": {"accuracy": {"value": points}},
        "cpu_seconds": {"prune": seconds, "recover": 1.0},
        "environment": {"device": "CPU"},
        "revision": "abc",
    }


def test_the_front_is_what_nothing_beats_in_both() -> None:
    best, quick, beaten, chance = "none-pdp", "none-fisher-alone", "none-magnitude", "none-random"
    lines = [line(arm, seed, p + seed / 100, s) for seed in (1, 0) for arm, p, s in
             ((best, 0.9, 50), (quick, 0.8, 5), (beaten, 0.79, 20), (chance, 0.7, 5))]  # fmt: skip
    text = markdown(lines, plan(Choice(), METHOD_ORDER), {}, STEPS)
    found = {row.split(" | ")[0]: row for row in text.splitlines() if row.startswith("| `")}
    front = {name for name, row in found.items() if row.endswith("front |")}
    assert front == {f"| {METHOD_ARMS[arm].what}" for arm in (best, quick)}
    assert "| 90.0, 91.0 | +20.0 ± 0.0 | 51 |" in found[f"| {METHOD_ARMS[best].what}"]
    assert "Not run: 370 of 378" in text


def test_runs_go_through_and_torchs_zeros_are_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny_model(tmp_path / "tiny")
    (tmp_path / "data").mkdir()
    labels = {"pos": "positive", "neg": "negative"}
    for name, count in (("yelp", 250), ("movies", 60)):
        table = rows(count)
        pairs = [(str(t), labels[str(label)]) for t, label in zip(table["text"], table["label"], strict=True)]
        data.write(tmp_path / "data" / f"{name}.parquet", pairs)
    arguments = ["--pair", "movies->yelp", "--rows", "40", "--kept", "0.5", "--seeds", "0", "--steps", "2", "10", "2"]
    arms = ("none-pdp", "none-fisher-alone", "none-fisher-short", "zeros-gradual", "zeros-once", "zeros-torch")
    arguments += ["--arm", *arms]
    for option, name in (("--data", "data"), ("--model", "tiny"), ("--results", "x.jsonl")):
        arguments += [option, str(tmp_path / name)]
    assert main(arguments, METHODS) == 0
    assert "movies-&gt;yelp, 50% kept" in (tmp_path / "x.svg").read_text()
    results = {r["cell"]["arm"]: r for r in read_results(tmp_path / "x.jsonl")}
    assert set(results) == set(arms)
    assert all(r["fraction"] == pytest.approx(0.5, abs=0.005) for r in results.values())
    assert results["zeros-torch"]["pruned"] == results["zeros-once"]["pruned"]
    assert results["none-fisher-alone"]["steps"] == {"teach": 2, "prune": 0, "recover": 0}
    assert results["none-fisher-short"]["steps"] == {"teach": 2, "prune": 0, "recover": 2}
    assert "movies->yelp, 40 rows, 50% of single weights kept" in (tmp_path / "x.md").read_text()
    assert main(arguments, METHODS) == 0
    assert "6 stand, 0 to run" in capsys.readouterr().err
