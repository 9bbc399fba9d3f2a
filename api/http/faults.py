"""What pydantic finds wrong with a request, as faults: where each lies, and how to mend it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from fastapi.exceptions import RequestValidationError

from api.schemas import Fault
from core.spec.errors import meant
from core.spec.job import JobSpec

MAX_ERRORS = 200  # of pydantic's, looked at
NO_FIELD = ("missing", "extra_forbidden")

SHAPES = {  # of parameters
    "idempotency-key": "should be visible ASCII characters without spaces; a UUID, say",
    "label": "should be key:value; a key has 1 to 63 of letters, digits and _./-, a value at most 200 characters",
    "sha256": "should be 64 of 0-9 and a-f",
}


def faults_of(refused: RequestValidationError) -> list[Fault]:
    """Give one fault a place. Of a union, only the branch that fits the input best is reported."""
    body = refused.body
    branches: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    located = []
    for error in refused.errors()[:MAX_ERRORS]:
        pointer, union = _locate(error, body)
        located.append((pointer, union, error))
        if union is not None:
            branches.setdefault(union[0], {}).setdefault(union[1], []).append(error)

    def misfit(found: list[Mapping[str, Any]]) -> tuple[int, int]:
        return sum(error["type"] in NO_FIELD for error in found), len(found)

    best = {where: min(tags, key=lambda tag: misfit(tags[tag])) for where, tags in branches.items()}
    faults: dict[str, Fault] = {}
    for pointer, union, error in located:
        if union is not None and union[1] != best[union[0]]:
            continue
        place, *rest = error["loc"]
        if place == "body":
            detail = _detail(error, pointer)
            tags = set(branches[union[0]]) if union is not None else set()
            if tags == {"int", "float"} and error["type"].endswith("_type"):
                detail = "should be a number"
            elif "bool" in tags and error["type"] == "literal_error":
                detail += ", true or false"
            faults.setdefault(pointer, Fault(pointer=pointer, detail=detail))
        else:
            name = str(rest[0]) if rest else str(place)
            shape = SHAPES.get(name.lower()) if error["type"] == "string_pattern_mismatch" else None
            faults.setdefault(name, Fault(parameter=name, detail=shape or _detail(error, "")))
    return list(faults.values())


def _locate(error: Mapping[str, Any], body: Any) -> tuple[str, tuple[str, str] | None]:
    """JSON pointer of an error, and (pointer, tag) of the first union that it lies in.

    pydantic's `loc` mixes keys with names of union branches; what the body does not hold is such a name.
    """
    pointer, union, value = "", None, body
    path = error["loc"][1:] if error["type"] != "json_invalid" else ()
    for i, part in enumerate(path):
        last = i == len(path) - 1
        held = part in value if isinstance(value, Mapping) else isinstance(value, list) and part in range(len(value))
        if held:
            value = value[part]
        elif not (last and error["type"] == "missing"):
            union = union or (pointer, str(part))
            continue
        pointer += "/" + str(part)[:200].replace("~", "~0").replace("/", "~1")
    # Of what lies between two fields pydantic says which object holds both, and the error itself which one to change.
    return error["type"] if error["type"].startswith("/") else pointer, union


def _detail(error: Mapping[str, Any], pointer: str) -> str:
    message = str(error["msg"])
    if error["type"] == "json_invalid":
        return f"is not JSON: {error.get('ctx', {}).get('error', message)}"
    if error["type"] == "missing":
        return "is required" if pointer else "a body is required"
    if error["type"] == "extra_forbidden":
        parent, _, name = pointer.rpartition("/")
        known = _known_fields(parent)
        outermost = "; it is known at the top, beside 'task'" if name in _known_fields("") else ""
        hint = _belongs(name, parent) or outermost + (meant(name, known) or ";")
        return "is not a known field" + (f"{hint} known here: {', '.join(known)}" if known else "")
    if error["type"] in ("dict_type", "model_type", "model_attributes_type"):
        known = _known_fields(pointer) if pointer else []
        return "should be a JSON object" + (f"; known here: {', '.join(known)}" if known else "")
    if error["type"] == "literal_error":
        expected = str(error["ctx"]["expected"])
        message += meant(error["input"], re.findall("'([^']*)'", expected))
    if "UploadFile" in message:
        return "should be a file: send it with a file name (curl -F file=@reviews.csv)"
    return message[0].lower() + message[1:] if message.startswith(("Input ", "String ", "List ", "Value ")) else message


@cache
def _job_schema() -> dict[str, Any]:
    return JobSpec.model_json_schema()


def _belongs(name: str, parent: str) -> str:
    """In which other objects a field is known, as the end of a sentence: those within `parent`, else the outermost."""
    homes = [pointer for pointer in _objects() if name in _known_fields(pointer)]
    homes = [pointer for pointer in homes if pointer.startswith(f"{parent}/")] or homes
    depth = min((pointer.count("/") for pointer in homes), default=0)
    nearest = [pointer[1:].removesuffix("/0").replace("/", ".") for pointer in homes if pointer.count("/") == depth]
    said = [f"'{name}'" for name in nearest]
    return f"; it belongs in {' or '.join(said)};" if said else ""


@cache
def _objects(pointer: str = "") -> tuple[str, ...]:
    """Every object within that at `pointer` that has known fields."""
    inner = [f"{pointer}/{name}{entry}" for name in _known_fields(pointer) for entry in ("", "/0")]
    return tuple(found for one in inner if _known_fields(one) for found in (one, *_objects(one)))


@lru_cache(200)
def _known_fields(pointer: str) -> list[str]:
    """Fields of the object at `pointer` in a job specification."""
    schema = _job_schema()
    definitions = schema["$defs"]

    def variants(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        if "$ref" in node:
            return variants(definitions[node["$ref"].rpartition("/")[2]])
        return [found for option in node["anyOf"] for found in variants(option)] if "anyOf" in node else [node]

    nodes: list[Mapping[str, Any]] = [schema]
    for part in pointer.split("/")[1:]:
        children = [n["items"] if part.isdigit() and "items" in n else n.get("properties", {}).get(part) for n in nodes]
        nodes = [found for child in children if child for found in variants(child)]
    return sorted({name for node in nodes for name in node.get("properties", {})})
