"""The specification refuses what it cannot do, and says how to mend it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from core.spec.budget import Budget
from core.spec.job import JobSpec

DATASET = {"dataset": "ds_" + "0" * 32}
MINIMAL: dict[str, Any] = {"model": "tiny", "task": {"data": DATASET}, "budget": {"params": 0.1}}

PAIRS = {"data": DATASET, "text": ["a", "b"], "label": "score"}
VECTORS: dict[str, Any] = {"task": {**PAIRS, "type": "sentence-similarity"}, "sources": [PAIRS]}


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


@pytest.mark.parametrize("name", ["a/b@refs/pr/3", "a/b@feature/x", "a/b@v1.0", "a/b", "b@" + "0" * 40])
def test_a_model_of_a_hub_may_be_a_branch_a_tag_or_a_commit(name: str) -> None:
    assert JobSpec.model_validate({**MINIMAL, "model": name}).model == name


@pytest.mark.parametrize(
    ("changes", "where", "says"),
    [
        (
            {"method": {"name": "channels"}},
            ("method", "name"),
            "is not available yet; available: fisher, l0",
        ),
        (
            {
                "method": {"name": "pdp"},
                "transfer": {"coupling": "tied"},
                "sources": [{"data": DATASET, "label": "label"}],
            },
            (),
            "it needs method 'l0'",
        ),
        ({"method": {"name": "random"}, "train": {"steps": {"prune": 9}}}, (), "leave 'steps.prune' out"),
        (
            {"method": {"name": "magnitude"}, "sources": [{"data": DATASET}], "transfer": {"stages": ["prune"]}},
            (),
            "no row has a say in what method 'magnitude' drops",
        ),
        (
            {
                "method": {"name": "magnitude"},
                "sources": [{"data": DATASET}],
                "transfer": {"coupling": "teacher", "stages": ["teach", "prune"]},
            },
            (),
            "in the 'prune' stage alone (in 'teach', where there is no teacher yet, text without labels says nothing)",
        ),
        (
            {
                "sources": [{"data": DATASET}],
                "transfer": {"coupling": "teacher", "share": ["weights"], "stages": ["teach", "prune"]},
            },
            (),
            "trains no weights in the 'prune' stage",
        ),
        (
            VECTORS | {"method": {"name": "random"}, "transfer": {"coupling": "joint", "stages": ["teach", "prune"]}},
            (),
            "in the 'prune' stage alone ('teach' has no steps for text vectors",
        ),
        (
            VECTORS | {"transfer": {"coupling": "joint", "weighting": "learned", "stages": ["teach", "prune"]}},
            (),
            "no stage of this transfer has one ('teach' has no steps",
        ),
        ({"train": {"steps": {"prune": 9}}}, (), "leave 'steps.prune' out"),
        (
            {
                "sources": [{"data": DATASET, "label": "label"}],
                "transfer": {"coupling": "joint", "share": ["weights"], "stages": ["prune"]},
            },
            (),
            "trains no weights in the 'prune' stage",
        ),
        (
            {
                "sources": [{"data": DATASET, "label": "label"}],
                "transfer": {"coupling": "joint", "weighting": "learned", "stages": ["prune"]},
            },
            (),
            "no stage of this transfer has one",
        ),
        (
            {
                "sources": [{"data": DATASET, "label": "label"}],
                "transfer": {"coupling": "teacher", "weighting": "learned", "stages": ["teach"]},
            },
            (),
            "no stage of this transfer has one",
        ),
        (
            {
                "method": {"name": "fisher"},
                "transfer": {"coupling": "tied"},
                "sources": [{"data": DATASET, "label": "label"}],
            },
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
        ({"export": {"formats": ["gguf"]}}, ("export", "formats", 0), "'safetensors', 'onnx' or 'onnx-int8'"),
        (
            {"budget": {"params": 0.1, "macs": 5}},
            ("budget",),
            "exactly one of 'params', 'macs', 'bytes', 'latency_ms', 'speedup', 'sparsity'; given: par",
        ),
        ({"budget": {}}, ("budget",), "'speedup', 'sparsity'; given: none"),
        ({"budget": {"bytes": 0.5, "of": "encoder"}}, ("budget",), "leave 'of' out"),
        ({"budget": {"bytes": 0.5, "sequence_length": 9}}, ("budget",), "leave it out"),
        ({"budget": {"latency_ms": 0}}, ("budget", "latency_ms"), "greater than 0"),
        ({"budget": {"latency_ms": 1e308}}, ("budget", "latency_ms"), "less than or equal to 3600000"),
        ({"budget": {"speedup": 1e308}}, ("budget", "speedup"), "less than or equal to 1000000"),
        ({"budget": {"params": 1e308}}, ("budget", "params"), "less than or equal to"),
        ({"budget": {"bytes": 2**62}}, ("budget", "bytes"), "less than or equal to"),
        ({"sources": [{"data": DATASET, "weight": 5e-324}]}, ("sources", 0, "weight"), "greater than or equal to"),
        ({"train": {"learning_rate": 5e-324}}, ("train", "learning_rate"), "greater than or equal to"),
        ({"budget": {"speedup": 1}}, ("budget", "speedup"), "greater than 1"),
        ({"budget": {"speedup": 2, "latency_ms": 5}}, ("budget",), "given: latency_ms, speedup"),
        ({"budget": {"speedup": 2, "of": "encoder"}}, ("budget",), "leave 'of' out"),
        ({"budget": {"speedup": 2, "runtime": "tflite"}}, ("budget", "runtime"), "'onnx'"),
        ({"budget": {"speedup": 2, "device": "tpu"}}, ("budget", "device"), "'cuda'"),
        ({"budget": {"params": 0.1, "batch_size": 2}}, ("budget",), "'batch_size' is for 'latency_ms' and 'speedup'"),
        ({"budget": {"macs": 0.1, "device": "cpu"}}, ("budget",), "'device' is for"),
        ({"budget": {"bytes": 0.1, "runtime": "onnx"}}, ("budget",), "'runtime' is for"),
        ({"train": {"steps": {"recover": 0}}, "sources": [{"data": DATASET}]}, (), "has 0 steps here: name a coupling"),
        (
            {
                "train": {"steps": {"teach": 0}},
                "sources": [{"data": DATASET}],
                "transfer": {"coupling": "teacher"},
            },
            (),
            "nothing can enter the 'teach' stage",
        ),
        ({"budget": {"pattern": "2:4"}}, ("budget",), "given: none"),
        ({"budget": {"params": 0.1, "pattern": "2:4"}}, ("budget",), "give 'sparsity' with it"),
        ({"budget": {"sparsity": 0.9, "pattern": "2:4"}}, ("budget",), "is a 'sparsity' of 0.5: give that"),
        ({"budget": {"sparsity": 0.9, "of": "model"}}, ("budget",), "leave 'of' out"),
        ({"budget": {"sparsity": 1.0}}, ("budget", "sparsity"), "less than 1"),
        (
            {"budget": {"sparsity": 0.9}, "method": {"name": "fisher"}},
            (),
            "for a budget in 'sparsity' use magnitude or pdp",
        ),
        (
            {
                "budget": {"sparsity": 0.9},
                "sources": [{"data": DATASET}],
                "transfer": {"coupling": "auto"},
            },
            (),
            "with a budget in 'sparsity' name a coupling",
        ),
        (
            {
                "budget": {"sparsity": 0.9},
                "method": {"name": "pdp"},
                "sources": [{"data": DATASET}],
                "transfer": {"coupling": "teacher", "share": ["masks"]},
            },
            (),
            "share both",
        ),
        ({"method": {"name": "l0"}, "export": {"layout": "regular"}}, (), "no plain config.json can say"),
        ({"method": {"name": "pdp"}, "export": {"layout": "regular"}}, (), "scores once: fisher, magnitude, random"),
        (
            {"budget": {"sparsity": 0.5}, "method": {"name": "magnitude"}, "export": {"layout": "regular"}},
            (),
            "loads with no code as it is: leave 'layout' out",
        ),
        ({"export": {"layout": "square"}}, ("export", "layout"), "'auto', 'free' or 'regular'"),
        (
            {"task": {"data": DATASET, "problem_type": "regression"}, "train": {"steps": {"teach": 0}}},
            (),
            "nothing says in what unit",
        ),
        ({"budget": {"params": 0}}, ("budget", "params"), "greater than 0"),
        ({"budget": {"params": 2.5}}, ("budget", "params"), "whole number"),
        ({"budget": {"params": True}}, ("budget", "params"), "valid"),
        ({"surprise": 1}, ("surprise",), "Extra inputs"),
        ({"model": "../../etc/passwd"}, ("model",), "not a path"),
        ({"model": "a/../b"}, ("model",), "not a path"),
        *(({"model": f"a/b@{name}"}, ("model",), "not a path") for name in ("../x", "x/../y", "/x", "x/", "x//y")),
        ({"model": "/etc"}, ("model",), "not a path"),
        ({"transfer": {"coupling": "teacher"}}, (), "needs at least one entry in 'sources'"),
        ({"transfer": {"coupling": "sequential"}, "sources": [{"data": DATASET}]}, (), "give each source a 'label'"),
        ({"transfer": {"share": []}}, ("transfer", "share"), "at least 1"),
        ({"transfer": {"stages": []}}, ("transfer", "stages"), "at least 1"),
        ({"transfer": {"stages": ["prune", "prune"]}}, ("transfer",), "twice"),
        ({"train": {"seed": -1}}, ("train", "seed"), "greater than or equal to 0"),
        ({"task": {"data": DATASET, "type": "causal-lm"}}, ("task", "type"), "not available yet"),
        (
            {"task": {"data": DATASET, "problem_type": "regression", "metric": "f1"}},
            ("task", "metric"),
            "give one of 'pearson', 'spearman', 'r2'",
        ),
        ({"task": {"data": DATASET, "metric": "pearson"}}, ("task", "metric"), "'accuracy', 'balanced_accuracy', 'f1'"),
        (
            {"task": {"data": DATASET, "type": "token-classification", "problem_type": "regression"}},
            ("task", "problem_type"),
            "leave it out",
        ),
        (
            {"task": {"data": DATASET, "type": "token-classification", "text": ["a", "b"]}},
            ("task", "text"),
            "one column",
        ),
        ({"task": {"data": DATASET, "split": {"train": 0.9, "dev": 0.2}}}, ("task", "split"), "over 1"),
        ({"task": {"data": DATASET, "split": {"train": 0}}}, ("task", "split", "train"), "at least 1"),
        ({"hidden_size": "trim", "method": {"name": "l0"}}, (), "once: fisher, magnitude, random"),
        ({"hidden_size": "trim", "budget": {"speedup": 2}}, (), "is for budgets in 'params', 'macs' or 'bytes'"),
        (
            {"hidden_size": "trim", "budget": {"sparsity": 0.5}, "method": {"name": "magnitude"}},
            (),
            "is for budgets in 'params', 'macs' or 'bytes'",
        ),
        ({"hidden_size": "trim", "export": {"layout": "regular"}}, (), "leave 'layout' out"),
    ],
)
@pytest.mark.field("3. Under attack", "`latency_ms: 1e308` and other absurd numbers in a job", "refused by field")
def test_refusals_name_the_field_and_the_mend(changes: dict[str, Any], where: tuple[Any, ...], says: str) -> None:
    loc, message = problem(**changes)
    assert (
        tuple(part for part in loc if part not in ("int", "float", "function-after[_size(), union[int,float]]"))[
            : len(where)
        ]
        == where
    )
    assert says in message


@pytest.mark.parametrize(
    ("task", "problem", "metric"),
    [
        ({"problem_type": "multi_label_classification"}, "multi_label_classification", "micro_f1"),
        ({"problem_type": "regression"}, "regression", "pearson"),
        ({"type": "token-classification"}, "token_classification", "entity_f1"),
        ({"type": "token-classification", "metric": "token_accuracy"}, "token_classification", "token_accuracy"),
    ],
)
def test_the_metric_follows_from_the_problem(task: dict[str, str], problem: str, metric: str) -> None:
    spec = JobSpec.model_validate(MINIMAL | {"task": {"data": DATASET, **task}})
    assert (spec.task.problem, spec.task.metric) == (problem, metric)
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


def test_masks_alone_enter_where_masks_are_learned() -> None:
    spec = JobSpec.model_validate(
        MINIMAL | {"sources": [{"data": DATASET}], "transfer": {"coupling": "teacher", "share": ["masks"]}}
    )
    assert spec.transfer.active == ["prune"]


def test_a_budget_in_time_may_say_under_what_conditions() -> None:
    budget = {"latency_ms": 4, "batch_size": 8, "sequence_length": 64, "device": "cpu", "runtime": "torch.compile"}
    spec = JobSpec.model_validate(MINIMAL | {"budget": budget})
    assert spec.budget.timed and spec.length == 64 and spec.budget.counted == "model"
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert JobSpec.model_validate(MINIMAL | {"budget": {"speedup": 2.5}}).length == 128
    assert not JobSpec.model_validate(MINIMAL).budget.timed


@pytest.mark.parametrize(
    ("changes", "method", "coupling"),
    [
        ({}, "fisher", "none"),
        ({"sources": [{"data": DATASET}]}, "fisher", "auto"),
        ({"sources": [{"data": DATASET, "label": "label"}], "transfer": {"coupling": "tied"}}, "l0", "tied"),
        ({"budget": {"sparsity": 0.9}}, "pdp", "none"),
        ({"budget": {"sparsity": 0.9, "pattern": "channel"}, "method": {}, "transfer": {}}, "pdp", "none"),
        ({"budget": {"sparsity": 0.5, "pattern": "2:4"}}, "magnitude", "none"),
        ({"budget": {"sparsity": 0.5, "pattern": "2:4"}, "method": {"name": "pdp"}}, "pdp", "none"),
        ({"budget": {"sparsity": 0.9}, "sources": [{"data": DATASET}]}, "pdp", "teacher"),
        (
            {"budget": {"sparsity": 0.9}, "sources": [{"data": DATASET}], "transfer": {"coupling": "none"}},
            "pdp",
            "none",
        ),
    ],
)
def test_what_is_not_named_suits_what_is_asked_for(changes: dict[str, Any], method: str, coupling: str) -> None:
    spec = JobSpec.model_validate(MINIMAL | changes)
    assert (spec.method.name, spec.coupling) == (method, coupling)
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize("changes", [{"budget": 1}, {"budget": {"sparsity": 0.5, "pattern": []}}, {"transfer": 1}])
def test_nothing_is_filled_into_what_cannot_be_read(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobSpec.model_validate(MINIMAL | changes)


def test_a_budget_counts_what_it_is_of() -> None:
    assert Budget(params=0.1).counted == "encoder"
    assert Budget(params=0.1, of="model").counted == Budget(macs=0.1).counted == Budget(bytes=0.1).counted == "model"


def test_budget_up_to_one_is_a_fraction() -> None:
    assert Budget(params=0.1).limit(1000) == 100
    assert Budget(params=1).limit(1000) == 1000
    assert Budget(params=250).limit(1000) == 250


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label": ["a", "a"]}, "names a column twice"),
        ({"label": []}, "at least 1 item"),
        ({"label": ["a"], "problem_type": "regression"}, "are of a multi_label_classification, not regression"),
        ({"label": ["a"], "type": "token-classification"}, "multi_label_classification, not token-classification"),
        ({"label": ["a"], "metric": "accuracy"}, "no metric of a multi_label_classification task"),
        ({"label_map": {"a": " "}}, "or null to leave the rows out"),
        ({"label_map": {"a": 1}}, "valid string"),
    ],
)
@pytest.mark.field("1. Data at the door", "label columns and maps that mean nothing", "refused by field, with the mend")
def test_label_columns_and_maps_that_mean_nothing(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        JobSpec.model_validate(MINIMAL | {"task": {"data": DATASET, **changes}})


def test_a_source_has_columns_and_names_of_the_targets_kind() -> None:
    sources = [{"data": DATASET, "label": ["a", "b"], "label_map": {"a": "c"}}]
    several = JobSpec.model_validate(MINIMAL | {"task": {"data": DATASET, "label": ["a", "c"]}, "sources": sources})
    assert several.task.problem == "multi_label_classification"
    assert JobSpec.model_validate_json(several.model_dump_json()) == several
    with pytest.raises(ValidationError, match="several columns are of a multi_label_classification"):
        JobSpec.model_validate(MINIMAL | {"sources": sources})
    with pytest.raises(ValidationError, match="'label_map' renames labels: give 'label', too"):
        JobSpec.model_validate(MINIMAL | {"sources": [{"data": DATASET, "label_map": {"a": "c"}}]})


def test_a_source_cannot_enter_only_a_stage_that_vectors_do_not_have() -> None:
    source = {"data": DATASET, "text": ["a", "b"], "label": "score"}
    task = {"type": "sentence-similarity", "data": DATASET, "text": ["a", "b"], "label": "score"}
    body = MINIMAL | {"task": task, "sources": [source], "transfer": {"coupling": "sequential", "stages": ["teach"]}}
    with pytest.raises(ValidationError, match="has no steps for text vectors unless"):
        JobSpec.model_validate(body)
    assert JobSpec.model_validate(body | {"train": {"steps": {"teach": 100}}})
    assert JobSpec.model_validate(body | {"transfer": {"coupling": "sequential", "stages": ["teach", "recover"]}})


def owning(*, task: dict[str, Any] | None = None, own: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A job with texts of its own."""
    return MINIMAL | {"task": {"data": DATASET, "unlabelled": {"data": OTHER, **(own or {})}, **(task or {})}, **more}


OTHER = {"dataset": "ds_" + "7" * 32}


def test_own_text_is_a_source_without_labels_that_the_teacher_reads() -> None:
    spec = JobSpec.model_validate(owning(task={"text": ["a", "b"]}))
    assert spec.coupling == "teacher"
    assert spec.dataset_ids()["/task/unlabelled/data/dataset"] == OTHER["dataset"]
    assert dict(spec.columns())[OTHER["dataset"]] == {"/task/unlabelled/text/0": "a", "/task/unlabelled/text/1": "b"}
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    named = JobSpec.model_validate(owning(own={"text": ["body"]}, sources=[{"data": DATASET, "label": "label"}]))
    assert named.coupling == "auto" and [*named.borrowed] == ["/sources/0", "/task/unlabelled"]
    assert named.borrowed["/task/unlabelled"].text == ["body"]
    pictures = JobSpec.model_validate(owning(task={"type": "image-classification", "image": "photo"}))
    assert (pictures.borrowed["/task/unlabelled"].image, pictures.coupling) == ("photo", "teacher")
    assert JobSpec.model_validate(owning(budget={"sparsity": 0.9})).coupling == "teacher"


@pytest.mark.parametrize(
    ("body", "where", "says"),
    [
        (owning(own={"label": "label"}), "/task/unlabelled/label", "read without labels"),
        (owning(own={"label_map": {"a": "b"}}), "/task/unlabelled/label", "read without labels"),
        (owning(own={"image": "photo"}), "/task/unlabelled/image", "is of texts: give 'text'"),
        (owning(own={"text": ["a"], "image": "b"}), "text", "and not both"),
        (owning(transfer={"coupling": "joint"}), "/transfer/coupling", "use 'teacher'"),
        (
            owning(transfer={"coupling": "sequential"}, sources=[{"data": DATASET, "label": "label"}]),
            "/transfer/coupling",
            "learns from labels alone",
        ),
        (owning(transfer={"stages": ["teach"]}), "/transfer/stages", "there is no teacher yet"),
        (owning(train={"steps": {"recover": 0}}), "/transfer/stages", "give 'stages' without it"),
    ],
)
def test_own_text_that_could_not_be_used_is_refused(body: dict[str, Any], where: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        JobSpec.model_validate(body)
    assert caught.value.errors()[0]["type"] == where


def test_columns_that_raise_doubts_are_read_where_they_are() -> None:
    spec = JobSpec.model_validate(MINIMAL | {"sources": [{"data": DATASET}]})
    ((dataset, names),) = spec.optional_columns().items()
    assert dataset == DATASET["dataset"] and {"label", "split", "Split", "SPLIT", "fold"} <= names


def several(*budgets: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in MINIMAL.items() if name != "budget"} | {"budgets": list(budgets)}


def test_each_size_of_a_family_is_a_job_of_its_own() -> None:
    spec = JobSpec.model_validate(several({"params": 0.4}, {"macs": 0.1}, {"speedup": 4, "runtime": "onnx"}))
    assert [size.budget.name for size in spec.sizes] == ["params-0.4", "macs-0.1", "speedup-4"]
    assert all(size.sizes == (size,) and not size.budgets for size in spec.sizes)
    stored = spec.model_dump(mode="json")
    assert stored["budget"] is None and JobSpec.model_validate(stored) == spec
    assert "budgets" not in JobSpec.model_validate(MINIMAL).model_dump(mode="json")


@pytest.mark.parametrize(
    ("budgets", "where", "why"),
    [
        ([{"params": 0.4}, {"params": 0.4}], "/budgets/1", "is the size at /budgets/0 again"),
        ([{"params": 0.4}, {"sparsity": 0.5}], "/budgets", "zeros keep every shape"),
        ([{"latency_ms": 3.0}, {"latency_ms": 3.0, "runtime": "onnx"}], "/budgets", "have no order"),
        ([{"macs": 0.1}, {"macs": 0.1, "sequence_length": 64}], "/budgets", "of different lengths have no order"),
        ([{"macs": 0.2, "sequence_length": 64}, {"macs": 0.1, "sequence_length": 64}], None, ""),
        ([{"sparsity": 0.5}, {"sparsity": 0.75, "pattern": "1:4"}], None, ""),
        ([{"params": 0.1, "of": "encoder"}, {"params": 0.1, "of": "model"}], None, ""),
    ],
)
def test_budgets_without_an_order_are_no_family(budgets: list[dict[str, Any]], where: str | None, why: str) -> None:
    if where is None:
        assert len({size.budget.name for size in JobSpec.model_validate(several(*budgets)).sizes}) == 2
        return
    with pytest.raises(ValidationError, match=why) as error:
        JobSpec.model_validate(several(*budgets))
    assert error.value.errors()[0]["type"] == where


def test_a_job_has_one_budget_or_several() -> None:
    both = {"budget": {"params": 0.1}, "budgets": [{"params": 0.1}, {"params": 0.2}]}
    for given, says in (({}, "Field required"), (both, "leave one of the two out")):
        with pytest.raises(ValidationError, match=says):
            JobSpec.model_validate({name: value for name, value in MINIMAL.items() if name != "budget"} | given)
    for count in (1, 9):
        with pytest.raises(ValidationError, match="items"):
            JobSpec.model_validate(several(*({"params": (1 + i) / 10} for i in range(count))))


def test_what_is_wrong_with_a_size_names_it() -> None:
    images = several({"macs": 0.5}, {"params": 0.5, "of": "encoder"})
    images["task"] = {"type": "image-classification", "data": {"dataset": "ds_" + "1" * 32}}
    with pytest.raises(ValidationError, match="the whole is counted") as error:
        JobSpec.model_validate(images)
    assert error.value.errors()[0]["type"] == "/budgets/1/of"


def test_a_file_that_one_size_brings_is_a_file_of_all() -> None:
    spec = JobSpec.model_validate(several({"params": 0.4}, {"speedup": 2, "runtime": "onnx-int8"}))
    assert {size.onnx_formats for size in spec.sizes} == {spec.onnx_formats} == {("onnx-int8",)}
    assert all(JobSpec.model_validate(size.model_dump(mode="json")) == size for size in spec.sizes)
