"""The client's models are what docs/openapi.json says that the API answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from core.spec import title as core_title
from topwork import inventory, models, report, title

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())["components"]["schemas"]
OURS: dict[str, type[BaseModel]] = {
    name: one
    for module in (inventory, models, report)
    for name, one in vars(module).items()
    if isinstance(one, type) and issubclass(one, BaseModel) and name not in ("Answer", "BaseModel", "Part", "Told")
}
EXTRA = {"Progress": {"stage", "size"}}  # what a stage says besides: extra fields are allowed there


def kinds(schema: dict[str, Any]) -> set[str]:
    """Types that a value may have, nested models by name."""
    if "anyOf" in schema:
        return set().union(*map(kinds, schema["anyOf"]))
    if "$ref" in schema:
        return {schema["$ref"].rpartition("/")[2]}
    if schema.get("type") == "array":
        return {f"list of {sorted(kinds(schema.get('items', {})))}"}
    if "enum" in schema:
        return {"one of " + ", ".join(map(str, schema["enum"]))}
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties", True)
        return {"object" if isinstance(inner, bool) else f"object of {sorted(kinds(inner))}"}
    return {str(schema["type"])} if "type" in schema else {"anything"}


@pytest.mark.parametrize("name", OURS)
def test_a_model_is_what_the_api_answers(name: str) -> None:
    theirs, ours = DOCUMENT[name], OURS[name].model_json_schema()
    extra = EXTRA.get(name, set())
    assert {*ours["properties"]} - {*theirs["properties"]} == extra
    if OURS[name].__module__ != report.__name__:  # of which we have what is told here
        assert {*theirs["properties"]} <= {*ours["properties"]}
    for field in {*ours["properties"]} - extra:
        own, given = kinds(ours["properties"][field]), kinds(theirs["properties"][field])
        if "object" in own:  # kept as it is
            assert all(kind in ("object", "null") or kind in DOCUMENT for kind in given), field
        else:
            assert own - {"null"} == given - {"null"}, field
            assert ("null" in own) >= ("null" in given), field
    assert {*ours.get("required", [])} <= {*theirs.get("required", [])}


@pytest.mark.parametrize(
    "spec",
    [
        {"model": "a@main", "budget": {"params": 0.1}},
        {"model": "a", "task": {"type": "text-ranking"}, "budget": {"params": 5e6, "of": "model"}},
        {"model": "a", "budget": {"bytes": 2e7}},
        {"model": "a", "budgets": [{"latency_ms": 0.3}, {"speedup": 4}, {"sparsity": 0.9}, {"macs": 0.5}]},
        {"model": "a", "title": "mine"},
        {},
    ],
)
def test_a_title_is_that_of_the_page(spec: dict[str, Any]) -> None:
    """The client, which imports nothing of ours, has words of its own for it: the same."""
    assert title.title(spec) == core_title.title(spec)
