"""The client's models are what docs/openapi.json says that the API answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from topwork import models, report

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())["components"]["schemas"]
OURS: dict[str, type[BaseModel]] = {
    name: one
    for module in (models, report)
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
    if OURS[name].__module__ == models.__name__:  # of a report, what is told here
        assert {*theirs["properties"]} <= {*ours["properties"]}
    for field in {*ours["properties"]} - extra:
        own, given = kinds(ours["properties"][field]), kinds(theirs["properties"][field])
        if own == {"object"} or own == {"object", "null"}:  # kept as it is
            assert given - own <= {"Units", "ChannelUnits", "Report", "FamilyReport", "null"} | statuses(given), field
        else:
            assert own - {"null"} == given - {"null"}, field
            assert ("null" in own) >= ("null" in given), field
    assert {*ours.get("required", [])} <= {*theirs.get("required", [])}


def statuses(given: set[str]) -> set[str]:
    """Those of an event's data, which differ by its type."""
    return given & {"StatusChange", "StageBegun", "StageProgress", "Note"}
