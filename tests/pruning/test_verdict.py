"""A model that is no better than one answer for every row is said to be so, before all else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import one_hot

from core.pruning.job.verdict import busy, lead, verdict
from core.pruning.latency import stopwatch
from core.rows.example import Example
from core.rows.splitting.splits import Splits
from core.spec.report import Results
from core.spec.task import METRICS, ProblemType, TaskSpec
from core.tasks import task_of
from tests.reports import result
from tests.tiny import TARGET, done, rows, save_table, spec_of

SETS = [["a"]] * 71 + [["a", "b"]] * 15 + [[]] * 14
CASES: dict[ProblemType, tuple[list[Any], dict[str, list[Any]]]] = {  # the labels, and what models say, by name
    "single_label_classification": (
        ["a"] * 71 + ["b"] * 20 + ["c"] * 9,
        {
            "always": ["a"] * 100,
            "nearly always": ["b", *["a"] * 99],
            "always another": ["c"] * 100,
            "good": [*["a"] * 71, *["b"] * 18, *["a"] * 2, *["c"] * 7, *["a"] * 2],
        },
    ),
    "multi_label_classification": (
        SETS,
        {
            "always": [["a"]] * 100,
            "always another": [["a", "b"]] * 100,
            "never": [[]] * 100,
            "good": [["a"]] * 73 + SETS[73:],
        },
    ),
    "regression": (
        [float(i) for i in range(100)],
        {"always": [49.5] * 100, "always another": [7.0] * 100, "good": [i + i % 7 for i in range(100)]},
    ),
    "token_classification": (
        [["O", "O", "B-x"], ["O", "O", "O"]] * 50,
        {
            "always": [["O"] * 3] * 100,
            "always another": [["B-x"] * 3] * 100,
            "good": [["O", "O", "B-x"], ["O", "O", "O"]] * 45 + [["O"] * 3] * 10,
        },
    ),
}


def logits_of(kind: ProblemType, names: list[str], said: list[Any]) -> torch.Tensor:
    """Logits that say so."""
    if kind == "regression":
        return torch.tensor(said, dtype=torch.float64)[:, None]
    if kind == "multi_label_classification":
        return torch.tensor([[float(name in row) for name in names] for row in said]) - 0.5
    index = [[names.index(tag) for tag in row] if isinstance(row, list) else names.index(row) for row in said]
    return one_hot(torch.tensor(index), len(names)).float()


def labels_of(kind: ProblemType, names: list[str], truth: list[Any]) -> torch.Tensor:
    """As the problem encodes them."""
    if kind == "token_classification":
        return torch.tensor([[names.index(tag) for tag in row] for row in truth])
    return task_of(kind, names).truth(truth)


@pytest.mark.parametrize("kind", CASES)
def test_only_a_model_that_has_learned_leads_one_answer(kind: ProblemType) -> None:
    truth, models = CASES[kind]
    names = ["B-x", "O"] if kind == "token_classification" else ["a", "b", "c"]
    problem, labels = task_of(kind, names), labels_of(kind, names, truth)
    usual = problem.usual(truth, labels)
    for metric in METRICS[kind]:
        for name, said in models.items():
            found = lead(problem, metric, logits_of(kind, names, said), labels, usual)
            assert (found.low > 0) == (name == "good"), (metric, name, found)
            assert found.low <= found.value <= found.high


def told(dense: str, pruned: str, **task: Any) -> list[str]:
    """What is said of two models of the first case."""
    truth, models = CASES["single_label_classification"]
    names, asked = ["a", "b", "c"], TaskSpec.model_validate({"data": {"dataset": TARGET}, **task})
    problem = task_of(asked.problem, names)
    labels = problem.encode(truth)
    usual = problem.usual(truth, labels)
    results = {}
    for name, said in (("dense", dense), ("pruned", pruned)):
        logits = logits_of(asked.problem, names, models[said])
        led = lead(problem, asked.metric, logits, labels, usual)
        results[name] = result(0) | {"test": problem.intervals(logits, labels), "lead": led}
    test = [Example((str(i),), label) for i, label in enumerate(truth)]
    return list(verdict(Results(**results), asked, Splits(names, [], [], test)))


def test_it_names_numbers_and_a_mend() -> None:
    assert not told("good", "good")
    [said] = told("always", "good")
    assert said == (
        "the dense model is no better than always giving the commonest answer: accuracy 71.0% against 71.0% on 100 "
        "test rows; set task.metric to 'balanced_accuracy' or 'f1', and add training rows of the rarer classes"
    )
    [said] = told("always", "nearly always")
    assert "the dense model is" in said and ", nor the pruned one, 70.0%; set task.metric" in said
    [said] = told("good", "always")
    assert "the pruned model is no better" in said and said.endswith("or related sources") and "budget" in said
    [said] = told("always another", "good", metric="f1")
    assert "macro F1 5.5% against 27.7%" in said and "train.steps.teach" in said


def test_a_lead_that_may_be_chance_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    _, models = CASES["single_label_classification"]
    monkeypatch.setitem(models, "hardly", ["a"] * 71 + ["b"] * 2 + ["a"] * 27)
    [said] = told("hardly", "good")
    assert (
        "the dense model cannot be told to be better" in said and "73.0% against 71.0% on 100 test rows, a lead" in said
    )
    assert "; more test rows would tell; else set task.metric" in said


@pytest.mark.field(
    "2. Models in, checkpoints out",
    "a model no better than the commonest answer",
    "the first warning, and at the top of the report",
)
def test_a_job_says_so_first_and_at_the_top(tiny: Path, tmp_path: Path) -> None:
    table = rows(400)
    kept = [i for i, label in enumerate(table["label"]) if label == "pos" or i < 164]  # 200 of 282: 71 %
    columns = {name: [values[i] for i in kept] for name, values in table.items()}
    table = save_table(tmp_path / "rows.parquet", columns)
    task = {"data": {"dataset": TARGET}, "split": {"train": 60, "dev": 40}}
    spec = spec_of(task=task, train={"steps": {"teach": 20, "recover": 1}, "learning_rate": 1e-5})
    report = done(spec, tiny, {TARGET: table}, tmp_path)
    first = report.warnings[0]
    assert "model is no better than always giving the commonest answer: accuracy" in first
    page, card = ((tmp_path / "output" / name).read_text() for name in ("report.html", "README.md"))
    assert "Mind: the dense model is no better than always" in card.partition("\n| ")[0]
    assert page.index("the dense model is no better") < page.index('<p class="lead">')


def test_a_busy_machine_is_said_and_a_quiet_one_is_not() -> None:
    [said] = busy(0.34)
    assert said.startswith("the machine was busy") and "34%" in said
    assert [*busy(0.05)] == []


def test_the_part_of_the_time_that_a_thread_waited_for_a_core_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((10.0, 14.0))
    waits = iter((1.0, 3.0))
    monkeypatch.setattr("core.pruning.latency.stopwatch.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr(stopwatch, "_waited_s", lambda: next(waits))
    assert stopwatch.waiting(lambda: "found") == ("found", 0.5)
