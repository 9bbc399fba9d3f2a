"""The specification refuses what it cannot do, and says how to mend it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from core.spec.job import Budget, JobSpec

DATASET = {"dataset": "ds_" + "0" * 32}
MINIMAL: dict[str, Any] = {"model": "tiny", "task": {"data": DATASET}, "budget": {"params": 0.1}}


def problem(**changes: Any) -> tuple[tuple[int | str, ...], str]:
    """Where and why `MINIMAL` with `changes` is refused."""
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(MINIMAL | changes)
    first = caught.value.errors()[0]
    return first["loc"], first["msg"]


def test_defaults() -> None:
    spec = JobSpec.model_validate(MINIMAL)
    assert (spec.coupling, spec.method.name, spec.task.metric) == ("none", "fisher", "accuracy")
    with_source = JobSpec.model_validate(MINIMAL | {"sources": [{"data": DATASET}]})
    assert with_source.coupling == "auto"
    assert with_source.dataset_ids() == {
        "/task/data/dataset": DATASET["dataset"],
        "/sources/0/data/dataset": DATASET["dataset"],
    }


@pytest.mark.parametrize(
    ("changes", "where", "says"),
    [
        ({"method": {"name": "pdp"}}, ("method", "name"), "method 'pdp' is not available yet; available: fisher, l0"),
        ({"train": {"steps": {"prune": 9}}}, (), "leave 'steps.prune' out"),
        (
            {"transfer": {"coupling": "tied"}, "sources": [{"data": DATASET, "label": "label"}]},
            (),
            "it needs method 'l0'",
        ),
        ({"transfer": {"coupling": "auto"}}, (), "needs at least one entry in 'sources'"),
        ({"transfer": {"share": ["masks"]}, "sources": [{"data": DATASET}]}, (), "name a coupling to share one alone"),
        ({"transfer": {"stages": ["teach"]}, "sources": [{"data": DATASET}]}, (), "there is no teacher yet"),
        ({"transfer": {"coupling": "joint"}, "sources": [{"data": DATASET}]}, (), "give each source a 'label'"),
        ({"transfer": {"coupling": "sequential", "weighting": "learned"}}, ("transfer",), "in one batch"),
        ({"transfer": {"share": ["masks"], "stages": ["recover"]}}, ("transfer",), "the 'prune' stage only"),
        ({"transfer": {"coupling": "tied", "stages": ["teach"]}}, ("transfer",), "needs 'masks' in 'share'"),
        ({"transfer": {"coupling": "tied", "share": ["weights"]}}, ("transfer",), "needs 'masks' in 'share'"),
        (
            {"transfer": {"coupling": "teacher", "stages": ["teach"]}, "sources": [{"data": DATASET}]},
            (),
            "there is no teacher yet",
        ),
        ({"control": True}, (), "this job has none"),
        ({"transfer": {"weighting": "learned"}}, (), "give at least one in 'sources'"),
        ({"export": {"formats": ["gguf"]}}, ("export", "formats", 0), "'safetensors' or 'onnx'"),
        (
            {"budget": {"params": 0.1, "macs": 5}},
            ("budget",),
            "exactly one of 'params', 'macs', 'bytes'; given: par",
        ),
        ({"budget": {}}, ("budget",), "exactly one of 'params', 'macs', 'bytes'; given: none"),
        ({"budget": {"bytes": 0.5, "of": "encoder"}}, ("budget",), "leave 'of' out"),
        ({"budget": {"bytes": 0.5, "sequence_length": 9}}, ("budget",), "leave it out"),
        ({"budget": {"latency_ms": 5}}, ("budget", "latency_ms"), "not available yet"),
        ({"method": {"name": "l0"}, "export": {"layout": "regular"}}, (), "no plain config.json can say"),
        ({"export": {"layout": "square"}}, ("export", "layout"), "'free' or 'regular'"),
        ({"budget": {"params": 0}}, ("budget", "params"), "greater than 0"),
        ({"budget": {"params": 2.5}}, ("budget", "params"), "whole number"),
        ({"budget": {"params": True}}, ("budget", "params"), "valid"),
        ({"surprise": 1}, ("surprise",), "Extra inputs"),
        ({"model": "../../etc/passwd"}, ("model",), "not a path"),
        ({"model": "a/../b"}, ("model",), "not a path"),
        ({"model": "/etc"}, ("model",), "not a path"),
        ({"transfer": {"coupling": "teacher"}}, (), "needs at least one entry in 'sources'"),
        ({"transfer": {"coupling": "sequential"}, "sources": [{"data": DATASET}]}, (), "give each source a 'label'"),
        ({"transfer": {"share": []}}, ("transfer", "share"), "at least 1"),
        ({"transfer": {"stages": []}}, ("transfer", "stages"), "at least 1"),
        ({"transfer": {"stages": ["prune", "prune"]}}, ("transfer",), "twice"),
        ({"train": {"seed": -1}}, ("train", "seed"), "greater than or equal to 0"),
        ({"task": {"data": DATASET, "type": "causal-lm"}}, ("task", "type"), "not available yet"),
        ({"task": {"data": DATASET, "split": {"train": 0.9, "dev": 0.2}}}, ("task", "split"), "over 1"),
        ({"task": {"data": DATASET, "split": {"train": 0}}}, ("task", "split", "train"), "at least 1"),
    ],
)
def test_refusals_name_the_field_and_the_mend(changes: dict[str, Any], where: tuple[Any, ...], says: str) -> None:
    loc, message = problem(**changes)
    assert (
        tuple(part for part in loc if part not in ("int", "float", "function-after[_size(), union[int,float]]"))[
            : len(where)
        ]
        == where
    )
    assert says in message


def test_masks_alone_enter_where_masks_are_learned() -> None:
    spec = JobSpec.model_validate(
        MINIMAL | {"sources": [{"data": DATASET}], "transfer": {"coupling": "teacher", "share": ["masks"]}}
    )
    assert spec.transfer.active == ["prune"]


def test_a_budget_counts_what_it_is_of() -> None:
    assert Budget(params=0.1).counted == "encoder"
    assert Budget(params=0.1, of="model").counted == Budget(macs=0.1).counted == Budget(bytes=0.1).counted == "model"


def test_budget_up_to_one_is_a_fraction() -> None:
    assert Budget(params=0.1).limit(1000) == 100
    assert Budget(params=1).limit(1000) == 1000
    assert Budget(params=250).limit(1000) == 250
