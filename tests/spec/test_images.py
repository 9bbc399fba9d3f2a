"""Jobs on pictures: what may be asked, and how its defaults are filled in."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from core.spec.job import JobSpec

DATA = {"dataset": "ds_" + "0" * 32}
OWN = {"readers": "own"}


def spec_of(task: dict[str, Any], **parts: Any) -> JobSpec:
    return JobSpec.model_validate({"model": "m", "budget": {"params": 0.5}, "task": {"data": DATA} | task} | parts)


def images(task: dict[str, Any] | None = None, **parts: Any) -> JobSpec:
    return spec_of({"type": "image-classification"} | (task or {}), **parts)


def test_defaults() -> None:
    spec = images()
    assert (spec.task.image, spec.task.text, spec.task.columns, spec.task.augment) == ("image", [], ["image"], True)
    assert (spec.task.problem, spec.task.metric, spec.train.image_size) == (
        "single_label_classification",
        "accuracy",
        None,
    )
    text = spec_of({})
    assert (text.task.image, text.task.columns, text.task.augment) == (None, ["text"], None)


def test_parameters_are_those_of_the_whole_model() -> None:
    share: Any
    for share in ({"params": 0.5}, "50%"):
        assert images(budget=share).budget.model_dump(exclude_none=True) == {"params": 0.5, "of": "model"}
    sizes = images(budget=None, budgets=["50%", {"params": 0.25}, {"macs": 0.5}]).sizes
    assert [size.budget.of for size in sizes] == ["model", "model", None]
    assert spec_of({}, budget="50%").budget.of is None


def test_readers_are_shared_unless_they_are_to_have_their_own() -> None:
    assert not images().own_readers and not images(channels={"multiple": 8}).own_readers
    own = images(channels=OWN, export={"formats": ["onnx"]})
    assert own.own_readers and own.multiple == 16 and JobSpec.model_validate(own.model_dump(mode="json")) == own


def test_what_is_answered_can_be_asked_again() -> None:
    spec = images(
        {"image": "photo", "label": ["a", "b"], "augment": False},
        sources=[{"data": DATA}, {"data": DATA, "image": "x", "text": [], "label": "y"}],
        train={"image_size": 96},
    )
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert spec.task.problem == "multi_label_classification" and spec.task.augment is False
    assert [source.columns for source in spec.sources] == [["image"], ["x"]]
    assert [columns for _, columns in spec.columns()] == [
        {"/task/image": "photo", "/task/label/0": "a", "/task/label/1": "b"},
        {"/sources/0/image": "image"},
        {"/sources/1/image": "x", "/sources/1/label": "y"},
    ]


@pytest.mark.parametrize(
    ("spec", "where", "says"),
    [
        (lambda: images({"text": ["a"]}), ("task", "text"), "leave 'text' out"),
        (lambda: spec_of({"image": "a"}), ("task", "image"), '"type": "image-classification"'),
        (lambda: spec_of({"augment": False}), ("task", "augment"), "is of pictures"),
        (lambda: spec_of({"text": []}), ("task", "text"), "at least 1 item"),
        (lambda: images({"problem_type": "regression"}), ("task", "problem_type"), "no numbers"),
        (lambda: images({"label": None}), ("task", "label"), "learns from labels"),
        (lambda: images(vocabulary="trim"), "/vocabulary", "is of texts"),
        (lambda: images(train={"image_size": 16}), ("train", "image_size"), "greater than or equal to 32"),
        (lambda: spec_of({}, train={"image_size": 64}), "/train/image_size", "is of pictures"),
        (lambda: spec_of({}, sources=[{"data": DATA, "image": "x"}]), "/sources/0/image", "give 'text'"),
        (lambda: images(sources=[{"data": DATA, "text": ["x"]}]), "/sources/0/text", "give 'image'"),
        (
            lambda: images(sources=[{"data": DATA, "image": "x", "text": ["a"]}]),
            ("sources", 0, "text"),
            "and not both",
        ),
        (lambda: images(sources=[{"data": DATA, "label": ["a", "b"]}]), "/sources/0/label", "several columns"),
        (lambda: images(channels=OWN, method={"name": "l0"}), "/channels/readers", "'fisher'"),
        (lambda: images(channels=OWN, method={"name": "pdp"}), "/channels/readers", "learns masks"),
        (lambda: images(channels=OWN, budget={"sparsity": 0.5}), "/channels/readers", "leave it out"),
        (lambda: spec_of({}, channels=OWN), "/channels", "reads texts"),
        (
            lambda: images(budget=None, budgets=[{"params": 0.5}, {"params": 0.5, "of": "model"}]),
            "/budgets/1",
            "is the size at /budgets/0 again",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field(spec: Any, where: Any, says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        spec()
    [fault] = refused.value.errors()
    assert where in (fault["loc"], fault["type"]) and says in fault["msg"]
