"""Strings that people type are what the same numbers, lists and objects are."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from core.spec import shorthand
from core.spec.budget import Budget
from core.spec.job import JobSpec
from tests.draws import draws
from tests.spec.test_job import MINIMAL, problem

PERCENT = st.decimals(Decimal("0.01"), 100, places=2)
SPACE = st.sampled_from(["", " "])


def spec(**changes: Any) -> dict[str, Any]:
    """As it is stored."""
    return JobSpec.model_validate(MINIMAL | changes).model_dump(mode="json")


TYPED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"budget": "10%"}, {"budget": {"params": 0.1}}),
    ({"budget": " 7 % "}, {"budget": {"params": 0.07}}),
    ({"budget": "3 ms"}, {"budget": {"latency_ms": 3.0}}),
    ({"budget": "0.3ms"}, {"budget": {"latency_ms": 0.3}}),
    ({"budget": "4x"}, {"budget": {"speedup": 4.0}}),
    ({"budget": "20 MB"}, {"budget": {"bytes": 20_000_000}}),
    ({"budget": "20 MiB"}, {"budget": {"bytes": 20 * 2**20}}),
    ({"budget": {"params": "10%", "of": "model"}}, {"budget": {"params": 0.1, "of": "model"}}),
    ({"budget": {"params": "5M"}}, {"budget": {"params": 5_000_000}}),
    ({"budget": {"macs": "1.5M"}}, {"budget": {"macs": 1_500_000}}),
    ({"budget": {"bytes": "1.5 MB"}}, {"budget": {"bytes": 1_500_000}}),
    ({"budget": {"latency_ms": "3 ms"}}, {"budget": {"latency_ms": 3.0}}),
    ({"budget": {"speedup": "4x"}}, {"budget": {"speedup": 4.0}}),
    ({"budget": {"sparsity": "90%"}}, {"budget": {"sparsity": 0.9}}),
    ({"budget": None, "budgets": ["40%", "10%"]}, {"budget": None, "budgets": [{"params": 0.4}, {"params": 0.1}]}),
    ({"method": "l0"}, {"method": {"name": "l0"}}),
    ({"task": {**MINIMAL["task"], "text": "body"}}, {"task": {**MINIMAL["task"], "text": ["body"]}}),
    (
        {"sources": [{**MINIMAL["task"], "text": "body"}]},
        {"sources": [{**MINIMAL["task"], "text": ["body"]}]},
    ),
]


@pytest.mark.parametrize(("typed", "meant"), TYPED)
@pytest.mark.field(
    "4. A newcomer's hour", "10%, 3 ms, 4x, 20 MB as text; one column; a method's name", "taken, and stored in one form"
)
def test_what_is_typed_is_stored_as_what_is_meant(typed: dict[str, Any], meant: dict[str, Any]) -> None:
    assert spec(**typed) == spec(**meant)


WRONG = [
    ({"budget": "small"}, ("budget",), "as text, give it like '10%', '3 ms', '4x', '20 MB'"),
    ({"budget": "-1%"}, ("budget",), "cannot be read"),
    ({"budget": {"params": "ten"}}, ("budget", "params"), "give it like '10%', '5M'"),
    ({"budget": {"bytes": "0.5 B"}}, ("budget", "bytes"), "give it like '20 MB', '20 MiB', '10%'"),
    ({"budget": {"latency_ms": "3"}}, ("budget", "latency_ms"), "give it like '3 ms'"),
    ({"budget": {"speedup": "0.5x"}}, ("budget", "speedup"), "greater than 1"),
    ({"budget": "200%"}, ("budget",), "cannot be read"),
    ({"budget": {"sparsity": "100%"}}, ("budget", "sparsity"), "less than 1"),
    ({"method": ""}, ("method",), "give it like 'fisher'"),
    ({"task": {**MINIMAL["task"], "text": ""}}, ("task", "text"), "give it like 'text'"),
]


@pytest.mark.parametrize(("changes", "loc", "message"), WRONG)
@pytest.mark.field("4. A newcomer's hour", "text that cannot be read as a budget", "told with an example")
def test_what_cannot_be_read_is_told_with_an_example(
    changes: dict[str, Any], loc: tuple[str, ...], message: str
) -> None:
    where, why = problem(**changes)
    assert where[: len(loc)] == loc and message in why


@draws(200)
@given(PERCENT, SPACE)
def test_a_share_is_the_number_that_it_says(percent: Decimal, space: str) -> None:
    assert shorthand.read_budget(f"{percent}{space}%") == {"params": float(f"{percent / 100}")}


@draws(200)
@given(st.integers(1, 2**40), st.sampled_from([*shorthand.BYTES]), SPACE)
def test_a_size_is_the_bytes_that_it_says(count: int, unit: str, space: str) -> None:
    assert shorthand.read_budget(f"{count}{space}{unit}") == {"bytes": count * shorthand.BYTES[unit]}


FIELDS = [getattr(shorthand, name) for name in ("PARAMS", "BYTE_COUNT", "MILLISECONDS", "SPEEDUP", "ZEROS", "BUDGET")]


@draws(200)
@given(st.data(), st.sampled_from(FIELDS))
def test_whatever_the_described_pattern_allows_is_read_or_told(data: st.DataObject, field: shorthand.Written) -> None:
    text = data.draw(st.from_regex(f"^{field.pattern}$", fullmatch=True))
    found = field.read(text.strip())
    assert found is not None or "." in text or "%" in text  # half a byte; more than all


@draws(300)
@given(st.text(max_size=12))
def test_no_text_is_too_odd(text: str) -> None:
    for field in FIELDS:
        field.read(text)
    try:
        TypeAdapter(JobSpec).validate_python(MINIMAL | {"budget": text, "method": text})
    except ValidationError as error:
        assert {"budget", "method"} & {str(one["loc"][0]) for one in error.errors()}


def test_what_was_understood_is_said() -> None:
    assert [*shorthand.said({"budgets": ["3 ms", "small", {"params": 0.1}]})] == [
        "The budget '3 ms' is taken as latency_ms 3.0: milliseconds for one text or picture, as measured on the worker."
    ]
    for task, whole in (({}, "encoder"), ({"type": "image-classification"}, "model")):
        found = next(shorthand.said({"budget": "10%", "task": task}))
        assert found.startswith(f"The budget '10%' is taken as params 0.1: this share of the {whole}'s parameters")
    assert [*shorthand.said([])] == [*shorthand.said({"budget": {"params": 0.1}})] == []


def test_numbers_are_taken_as_before() -> None:
    assert Budget.model_validate({"params": 0.1}).params == 0.1
    for wrong in ({"params": True}, {"bytes": "x"}, {"latency_ms": [3]}):
        with pytest.raises(ValidationError):
            Budget.model_validate(wrong)
