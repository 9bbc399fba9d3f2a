"""Strings that people type where a specification has numbers, lists and objects: "10%", "20 MB", "3 ms", "4x", "text".

`read_budget` and the `Written` fields turn each into the form that is stored; `said` says what was made of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
COUNTS = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}
SECONDS = {"ms": Decimal(1), "s": Decimal(1000)}
NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)"

SHARE = rf"{NUMBER} ?%"
SIZE = rf"{NUMBER} ?(B|[kKMG]B|[KMG]iB)"
COUNT = rf"{NUMBER} ?([kMB]?)"
TIME = rf"{NUMBER} ?(ms|s)"
TIMES = rf"{NUMBER} ?x"


def _share(text: str) -> float | None:
    found = re.fullmatch(SHARE, text)
    return float(Decimal(found[1]) / 100) if found and Decimal(found[1]) <= 100 else None


def _whole(value: Decimal) -> int | None:
    return int(value) if value == value.to_integral_value() else None


def _size(text: str) -> int | None:
    found = re.fullmatch(SIZE, text)
    return _whole(Decimal(found[1]) * BYTES[found[2].replace("KB", "kB")]) if found else None


def _count(text: str) -> int | None:
    found = re.fullmatch(COUNT, text)
    return _whole(Decimal(found[1]) * COUNTS[found[2]]) if found else None


def _time(text: str) -> float | None:
    found = re.fullmatch(TIME, text)
    return float(Decimal(found[1]) * SECONDS[found[2]]) if found else None


def _times(text: str) -> float | None:
    found = re.fullmatch(TIMES, text)
    return float(found[1]) if found else None


def _either(*readers: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: next((value for read in readers if (value := read(text)) is not None), None)


@dataclass(frozen=True)
class Written:
    """Of a field: strings of this pattern are taken, too, as what `read` makes of them; None: it cannot be read."""

    read: Callable[[str], Any]
    pattern: str
    examples: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read before the field is validated."""
        return core_schema.no_info_before_validator_function(self._taken, handler(source))

    def _taken(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = self.read(value.strip())
        if found is None:
            told = ", ".join(f"'{example}'" for example in self.examples)
            raise PydanticCustomError("written", f"cannot be read; as text, give it like {told}")
        return found

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """What it was, or a string."""
        inner = handler(schema)
        text = {"type": "string", "pattern": f"^{self.pattern}$", "examples": [*self.examples]}
        return {"anyOf": [*(inner["anyOf"] if {*inner} == {"anyOf"} else [inner]), text]}


PARAMS = Written(_either(_share, _count), f"({SHARE}|{COUNT})", ("10%", "5M"))
BYTE_COUNT = Written(_either(_share, _size), f"({SHARE}|{SIZE})", ("20 MB", "20 MiB", "10%"))
MILLISECONDS = Written(_time, TIME, ("3 ms",))
SPEEDUP = Written(_times, TIMES, ("4x",))
ZEROS = Written(_share, SHARE, ("90%",))
ONE_COLUMN = Written(lambda name: [name] if name else None, ".{1,}", ("text",))
BY_NAME = Written(lambda name: {"name": name} if name else None, "[a-z0-9]{1,20}", ("fisher",))

KINDS: Mapping[str, Callable[[str], Any]] = {
    "params": _share,
    "latency_ms": _time,
    "speedup": _times,
    "bytes": _size,
}


def _budget(text: str) -> dict[str, Any] | None:
    """A share is one of parameters."""
    return next(({kind: value} for kind, read in KINDS.items() if (value := read(text)) is not None), None)


BUDGET = Written(_budget, f"({SHARE}|{TIME}|{TIMES}|{SIZE})", ("10%", "3 ms", "4x", "20 MB"))


def read_budget(value: Any) -> Any:
    """A budget as an object, if it is a string that can be read."""
    return (_budget(value.strip()) or value) if isinstance(value, str) else value


def said(spec: Any) -> Iterator[str]:
    """What was made of the strings in budgets of a specification as it was sent, a sentence each."""
    if not isinstance(spec, Mapping):
        return
    budgets = spec.get("budgets")
    task = spec.get("task")
    images = isinstance(task, Mapping) and task.get("type") == "image-classification"
    for given in [spec.get("budget"), *(budgets if isinstance(budgets, list) else [])]:
        found = read_budget(given)
        if isinstance(given, str) and isinstance(found, dict):
            ((kind, value),) = found.items()
            meaning = ": this share of the model's parameters" if images and kind == "params" else MEANING[kind]
            yield f"The budget '{given.strip()}' is taken as {kind} {value:,}{meaning}."


MEANING = {
    "params": ": this share of the encoder's parameters; give 'of' 'model' for the whole model's",
    "latency_ms": ": milliseconds for one text or picture, as measured on the worker",
    "speedup": ": times as fast as the dense model for one text or picture, as measured on the worker",
    "bytes": ": bytes of model.safetensors",
}
