"""The kinds of cells, of columns of them, and how columns of several kinds become one of one kind.

A kind is `null`, `bool`, `int`, `float`, `text`, `list:` with one of these, `nested` (JSON of an object, or of a list
of what is no plain value), `picture`, or `mixed:` with several: then each cell is the JSON of its value.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from core.rows.image.picture import picture_type

if TYPE_CHECKING:
    import pyarrow as pa

MAX_INT = 2**63
PLAIN = {bool: "bool", int: "int", float: "float", str: "text"}
WORDS = {
    "null": "nothing",
    "bool": "true or false",
    "int": "whole number",
    "float": "number",
    "text": "text",
    "nested": "JSON",
    "picture": "picture",
}


def arrow_type(kind: str) -> pa.DataType:
    """The type of a stored column of that kind."""
    import pyarrow as pa

    if kind.startswith("list:"):
        return pa.list_(arrow_type(kind.removeprefix("list:")))
    if kind == "picture":
        return picture_type()
    plain = {"null": pa.null(), "bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}
    return plain.get(kind, pa.string())


def words(kind: str) -> str:
    """The kind, for people."""
    if kind.startswith("list:"):
        item = WORDS[kind.removeprefix("list:")]
        return "list of true or false" if item == "true or false" else f"list of {item}s"
    return WORDS[kind]


def typed(values: Sequence[Any]) -> tuple[str, pa.Array]:
    """Values of parsed JSON as an array of their kind; raises UnicodeEncodeError for half of a surrogate pair."""
    import pyarrow as pa

    types = set(map(type, values)) - {type(None)}
    if types == {list}:
        items = [item for value in values if value is not None for item in value]
        kind = _list_kind(items)
        if kind != "nested":
            try:
                return kind, pa.array(values, arrow_type(kind))
            except (OverflowError, pa.ArrowInvalid):  # a whole number of more than 64 bits, or than a float holds
                kind = "list:text" if "text" in map(_kind, items) else kind
                return kind, pa.array([_as_kind(value, kind) for value in values], arrow_type(kind))
    if types <= set(PLAIN) and len(types) <= 1:
        kind = PLAIN[types.pop()] if types else "null"
        try:
            return kind, pa.array(values, arrow_type(kind))
        except OverflowError:  # a whole number of more than 64 bits
            return "mixed:text", pa.array([_dumped(value) for value in values], pa.string())
    parts = {_kind(value) for value in values if value is not None}
    kind = "nested" if parts == {"nested"} else "mixed:" + ",".join(sorted(parts))
    return kind, pa.array([_dumped(value) for value in values], pa.string())


def united(kinds: Iterable[str]) -> str:
    """The kind of a column whose parts are of these kinds."""
    parts = set(chain.from_iterable(kind.removeprefix("mixed:").split(",") for kind in kinds)) - {"null"}
    if not parts:
        return "null"
    lists = all(part.startswith("list:") for part in parts)
    if lists:
        items = {part.removeprefix("list:") for part in parts} - {"null"}
        return "list:" + (items.pop() if len(items) == 1 else _number_or_text(items))
    if all(part == "nested" or part.startswith("list:") for part in parts):
        return "nested"
    return parts.pop() if len(parts) == 1 else _number_or_text(parts)


def converted(array: pa.Array, kind: str, to: str) -> pa.Array:
    """Cells of one kind as those of another, which `united` gave."""
    import pyarrow as pa

    if kind == to:
        return array
    target = arrow_type(to)
    if kind == "null":
        return pa.nulls(len(array), target)
    if (kind == "list:null" and to.startswith("list:")) or (kind, to) in (("int", "float"), ("list:int", "list:float")):
        return array.cast(target, safe=False)  # whole numbers that no float holds are rounded
    values = array.to_pylist()
    if kind.startswith("mixed:") or kind == "nested":
        values = [None if value is None else json.loads(value) for value in values]
    return pa.array([_as_kind(value, to) for value in values], target)


def spelled(value: Any) -> str:
    """A value as its text: a string as it is, else as JSON spells it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _list_kind(items: Iterable[Any]) -> str:
    types = set(map(type, items)) - {type(None)}
    if not types <= set(PLAIN):
        return "nested"
    kinds = {PLAIN[one] for one in types}
    if len(kinds) < 2:
        return "list:" + (kinds.pop() if kinds else "null")
    return "list:float" if kinds == {"int", "float"} else "nested"


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return _list_kind(value)
    if isinstance(value, int) and not -MAX_INT <= value < MAX_INT:
        return "text"
    return PLAIN.get(type(value), "nested")


def _number_or_text(kinds: set[str]) -> str:
    return "null" if not kinds else "float" if kinds == {"int", "float"} else "text"


def _as_kind(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind.startswith("list:"):
        return [_as_kind(item, kind.removeprefix("list:")) for item in value]
    if kind == "nested":
        return _dumped(value)
    return spelled(value) if kind == "text" else float(value) if kind == "float" else value


def _dumped(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
