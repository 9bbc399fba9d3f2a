"""What a report says first: how it went, what transfer gave, what to try next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from core.pruning.export import answers
from core.pruning.export.card import blocks
from core.pruning.export.sides import CHARACTERS, changed_sides
from core.pruning.training.batches import Rows
from core.rows.example import Example
from core.spec.budget import Budget
from core.spec.job import JobSpec
from core.spec.report import Report
from core.tasks import task_of
from tests.pruning.test_page import SPEC, full, page_of


def changed(value: float, half: float = 0.01) -> dict[str, Any]:
    return {name: {"value": value, "low": value - half, "high": value + half} for name in ("accuracy",)}


def report_of(**results: Any) -> Report:
    made = full()
    made["results"] |= results
    return Report.model_validate(made)


@pytest.mark.parametrize(
    ("value", "mood", "says"),
    [
        (-0.03, "bad", "3.0 points of accuracy lost"),
        (0.005, "even", "accuracy not told apart from dense"),
        (0.03, "good", "3.0 points of accuracy above dense"),
    ],
)
def test_the_badge_goes_by_the_paired_interval(value: float, mood: str, says: str) -> None:
    budget, quality = answers.badges(report_of(change=changed(value)))
    assert (budget.mood, budget.says) == ("good", "budget met")
    assert (quality.mood, quality.says) == (mood, says)


def test_a_report_of_an_earlier_version_has_the_budget_alone() -> None:
    assert [badge.says for badge in answers.badges(report_of())] == ["budget met"]


def test_what_transfer_gave_is_said_or_how_to_ask() -> None:
    assert '"control": true' in answers.transfer(report_of())
    said = answers.transfer(report_of(gained=changed(0.04, 0.02)))
    assert said == "Transfer gave +4 (+2 to +6, paired) points of accuracy, by more than chance."
    assert answers.transfer(report_of(gained=changed(-0.04))).endswith("a loss.")
    alone = Report.model_validate(full() | {"transfer": {"coupling": "none", "stages": [], "sources": []}})
    assert answers.transfer(alone) == "Nothing was borrowed."


def test_what_to_try_next_follows_from_what_was_lost() -> None:
    spec = JobSpec.model_validate(SPEC)
    task = SPEC["task"] | {"unlabelled": {"data": {"dataset": f"ds_{3:032}"}}}
    own = JobSpec.model_validate(SPEC | {"task": task, "sources": []})
    lost = [*answers.steps(report_of(change=changed(-0.05)), spec)]
    assert '"budgets": [{"params": 0.4}, {"params": 0.2}, {"params": 0.1}]' in lost[0]
    assert "task.unlabelled" in lost[1] and not any("sources" in step for step in lost)
    assert "'sources'" in [*answers.steps(report_of(change=changed(-0.05)), own)][1]
    kept = [*answers.steps(report_of(change=changed(0.0)), spec)]
    assert '"budgets": [{"params": 0.1}, {"params": 0.05}, {"params": 0.025}]' in kept[0]
    assert any("onnx" in step for step in kept) and not any("unlabelled" in step for step in kept)
    onnx = JobSpec.model_validate(SPEC | {"export": {"formats": ["onnx"]}})
    assert not any("onnx" in step for step in answers.steps(report_of(change=changed(0.0)), onnx))


@pytest.mark.parametrize("change", [-0.05, 0.0])
@pytest.mark.parametrize("lead", [-0.01, 0.02])
def test_a_dense_model_that_has_learned_nothing_is_taught_first(change: float, lead: float) -> None:
    dense = full()["results"]["dense"] | {"lead": {"value": lead, "low": lead - 0.01, "high": lead + 0.01, "over": 0.5}}
    first, *others = answers.steps(report_of(change=changed(change), dense=dense), JobSpec.model_validate(SPEC))
    assert any("budgets" in step for step in (first, *others)) == (lead > 0)
    assert ("more training rows" in first and "teach" in first and "task.unlabelled" in first) == (lead < 0)


@pytest.mark.parametrize("coupling", ["teacher", "auto", "sequential", "joint", "tied"])
def test_own_rows_are_asked_for_with_a_coupling_that_takes_them(coupling: str) -> None:
    labelled = [source | {"label": "label"} for source in SPEC["sources"]]
    transfer = {"coupling": coupling}
    given = SPEC | {"sources": labelled, "transfer": transfer, "task": SPEC["task"] | {"label": "label"}}
    step = [*answers.steps(report_of(change=changed(-0.05)), JobSpec.model_validate(given))][1]
    mend = ", with coupling 'teacher' or 'auto'"
    assert (mend in step) == (coupling not in ("teacher", "auto"))
    own = {"task": given["task"] | {"unlabelled": {"data": {"dataset": f"ds_{3:032}"}}}}
    for other in ("teacher", "auto") if mend in step else (coupling,):
        JobSpec.model_validate(given | own | {"transfer": {"coupling": other}})


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"params": 0.2, "of": "model"}, '{"params": 0.2, "of": "model"}, {"params": 0.1, "of": "model"}'),
        (
            {"macs": 0.2, "sequence_length": 64},
            '{"macs": 0.2, "sequence_length": 64}, {"macs": 0.1, "sequence_length": 64}',
        ),
    ],
)
def test_other_sizes_are_measured_alike(budget: dict[str, Any], said: str) -> None:
    assert answers.family(Budget.model_validate(budget), 0.2, (1 / 2,)) == f'"budgets": [{said}]'


def test_the_page_begins_with_the_answers(tmp_path: Path) -> None:
    made = full()
    made["results"] |= {"change": changed(-0.05), "recall": {"neg": {"rows": 9, "dense": 0.9, "pruned": 0.5}}}
    made["results"]["recall"]["<b>pos"] = {"rows": 7, "dense": 0.8, "pruned": 0.8}
    page = page_of(made, tmp_path).text
    assert page.index("5.0 points of accuracy lost") < page.index("What to try next") < page.index("at most 13,000")
    assert page.index("−40.0 points") < page.index("<b>pos")


def test_recall_counts_what_is_found_of_each_label() -> None:
    single = task_of("single_label_classification", ["a", "b", "c"], ["a", "b"])
    logits = torch.eye(3)[[0, 1, 1, 2]]
    assert single.recalls(logits, torch.tensor([0, 0, 1, 1])) == {"a": (2, 0.5), "b": (2, 0.5)}
    several = task_of("multi_label_classification", ["a", "b"], [("a",)])
    found = several.recalls(torch.tensor([[1.0, -1], [1, 1]]), torch.tensor([[1.0, 1], [0, 1]]))
    assert found == {"a": (1, 1.0), "b": (2, 0.5)}
    assert task_of("regression", [], [1.0, 2.0]).recalls(torch.zeros(1, 1), torch.zeros(1)) == {}


def test_texts_that_changed_sides_are_shown_short() -> None:
    task = task_of("single_label_classification", ["a", "b"], ["a", "b"])
    rows = [Example(("word " * 99,), "a"), Example(("one", "two"), "b")]
    labels = torch.tensor([0, 1])
    modality: Any = None
    test = Rows({}, labels, task, modality)
    found = changed_sides(rows, test, torch.eye(2)[[0, 0]], torch.eye(2)[[1, 1]])
    [lost], [gained] = found.lost.shown, found.gained.shown
    assert lost.thumbnail is None and len(lost.name) <= CHARACTERS and lost.name.endswith("...")
    assert (gained.name, gained.label, gained.dense, gained.pruned) == ("one | two", "b", "a", "b")


def test_code_is_taken_out_of_the_card() -> None:
    assert blocks("a\n```python\nx = 1\n```\nb\n```sh\nls\n```\n```python\ny\n```\n") == ["x = 1\n", "y\n"]
