"""What a job is called."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from core.spec.job import JobSpec
from core.spec.title import budget, budgets, title

SPEC: dict[str, Any] = {"model": "tiny", "task": {"data": {"dataset": "ds_" + 32 * "0"}}, "budget": {"params": 0.1}}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"params": 0.1}, "10% of encoder parameters"),
        ({"params": 0.125, "of": "model"}, "12.5% of model parameters"),
        ({"params": 1_000_000, "of": "encoder"}, "1,000,000 encoder parameters"),
        ({"macs": 0.5}, "50% of model MACs"),
        ({"bytes": 20_000_000}, "20 MB"),
        ({"latency_ms": 3.0}, "3 ms"),
        ({"speedup": 4}, "4x as fast"),
        ({"sparsity": 0.9, "pattern": None}, "90% zeros"),
        ({}, "no budget"),
    ],
)
def test_a_budget_in_words(asked: dict[str, Any], said: str) -> None:
    assert budget(asked) == budgets({"budget": asked}) == said
    assert budgets({"budgets": [asked, {"latency_ms": 1}]}) == f"2 sizes: {said}; 1 ms"


def test_a_title_is_the_given_one_or_made_of_model_task_and_budget() -> None:
    for spec in (SPEC, JobSpec.model_validate(SPEC).model_dump(mode="json")):
        assert title(spec) == "tiny, text classification, 10% of encoder parameters"
        assert title(spec | {"model": "owner/name@abc"}).startswith("owner/name, ")
        assert title(spec | {"title": "mine"}) == "mine"
    assert title({}) == ", text classification, no budget"  # of another version


def test_a_title_is_one_to_a_hundred_characters_and_left_out_where_there_is_none() -> None:
    for wrong in ("", "x" * 101):
        with pytest.raises(ValidationError):
            JobSpec.model_validate(SPEC | {"title": wrong})
    assert "title" not in JobSpec.model_validate(SPEC).model_dump()
    assert JobSpec.model_validate(SPEC | {"title": "x" * 100}).model_dump()["title"] == "x" * 100
