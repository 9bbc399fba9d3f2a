"""What one cell holds: a value has one spelling, and a list is a list, however it was written down."""

from __future__ import annotations

import ast
import json
import math
import re
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from core.spec.errors import SpecError

T = TypeVar("T")
Plain = str | int | float | bool

# How pandas, R, SQL and spreadsheets write a missing value: hardly anybody's name of a class.
MISSING = frozenset(("nan", "NaN", "NAN", "-nan", "-NaN", "<NA>", "NaT", "null", "NULL", "#N/A", "#NA", "\\N"))
WHOLE = re.compile(r"[+-]?\d{1,15}\.0*")
SHOWN = 60  # characters of a cell in a message
MAX_OBJECT = 2000  # characters of a Python dict: their parser is recursive
# A flat Python list, tuple or set as text, or a numpy array ("['a' 'b']"), in one pass and without recursion.
ITEM = r"'(?:[^'\\]|\\.)*+'|\"(?:[^\"\\]|\\.)*+\"|[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?|True|False|None|nan"
FLAT = re.compile(rf"[\[({{]\s*+(?:(?:{ITEM})(?:\s*+,\s*+|\s++|(?=[\])}}])))*+[\])}}]", re.DOTALL)
ITEMS = re.compile(ITEM, re.DOTALL)
BROKEN = re.compile(r"\s*+[\[{]\s*+['\"]")
# What is not seen: soft hyphens, zero widths, directions; and beside ASCII, joiners and variants of signs.
UNSEEN = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
    "|(?<![^\x00-\x7f])[\u200c\u200d\ufe00-\ufe0f]+"
)
UNSAID = re.compile("[\0\ud800-\udfff]")


def spell(value: Plain, names: Sequence[str] | None = None) -> str:
    """The name of a class that a value is: `1` of 1, 1.0 and "1.0", `true` of True; `names` are of whole numbers.

    Of a text white space is no part, nor what is not seen, nor how its accents are encoded.
    """
    if isinstance(value, str):
        text = " ".join(unicodedata.normalize("NFC", UNSEEN.sub("", value)).split())
        return str(int(text.partition(".")[0])) if WHOLE.fullmatch(text) else text
    if isinstance(value, bool):
        return str(value).lower()
    whole = value if isinstance(value, int) else int(value) if value.is_integer() else None
    if names is None or whole is None:
        return repr(value) if whole is None else str(whole)
    if not 0 <= whole < len(names):
        raise ValueError(f"{whole} is no place among the {len(names)} names of its classes")
    return spell(names[whole])


def each(values: Sequence[Any], read: Callable[[Any], T], pointer: str, prefix: str = "") -> list[T]:
    """What `read` makes of each cell, once for each plain one; its ValueError as a SpecError with the row."""
    known: dict[Any, T] = {}
    found = []
    for number, value in enumerate(values, 1):
        key = None if isinstance(value, list) else (type(value), value)
        try:
            if key is None or key not in known:
                known[key] = read(value)
        except ValueError as error:
            raise SpecError(pointer, f"{prefix}row {number}: {error}") from error
        found.append(known[key])
    return found


def opened(value: Any, nested: bool = False) -> Plain | list[Plain] | None:
    """A plain value, or the plain values of a list, also as JSON, Python or numpy write one; None of a missing value.

    Of annotations, the names: {"choices": ["a"]} of Label Studio, {"a": 1, "b": 0} of spaCy. A text that is no such
    list is itself. Raises ValueError of an object that names nothing, and of half a list.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    found: Any = value
    if isinstance(value, str):
        found = structure(value.strip(), nested)
        if found is None and BROKEN.match(value):
            raise ValueError(f"{shown(value)} begins like a list or an object, and is none: mend it")
        if found is None:
            return value
    if isinstance(found, Mapping):
        found = _named(found, value)
    if isinstance(found, list):
        for i, item in enumerate(found, 1):
            if not isinstance(item, Plain) or (isinstance(item, float) and math.isnan(item)):
                raise ValueError(f"{shown(value)} names nothing: its item {i} is {shown(item)}; name a column of names")
            if isinstance(item, str) and UNSAID.search(item):
                raise ValueError(f"item {i} of the list holds a NUL or half of a surrogate pair; leave it out")
    elif not isinstance(found, Plain):
        raise ValueError(f"{shown(value)} is no name: name a column of names")
    return found  # type: ignore[no-any-return]


def structure(text: str, nested: bool = False) -> Any:
    """The list or object that a text is, by JSON, Python or numpy; of `nested` JSON any value. None if it is a text."""
    if text[:1] not in ("[", "{", "(") and not nested:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = _python(text)
    return found if nested or isinstance(found, list | dict) else None


def _python(text: str) -> Any:
    """What Python would print so; of a tuple or set only one of texts, since (1) may be a name."""
    if FLAT.fullmatch(text) and (text[0] == "[" or text[1:].lstrip()[:1] in ("'", '"')):
        return [_literal(item) for item in ITEMS.findall(text)]
    return _literal(text) if text[:1] == "{" and len(text) <= MAX_OBJECT else None


def _literal(text: str) -> Any:
    if text == "nan":
        return math.nan
    try:
        with warnings.catch_warnings():  # of escapes that mean nothing
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _named(found: Mapping[Any, Any], value: Any) -> Any:
    if "choices" in found:
        return found["choices"]
    if found and all(isinstance(part, int | float) and part in (0, 1) for part in found.values()):
        return [name for name, part in found.items() if part]
    raise ValueError(f"{shown(value)} is an object, and no name: name a column of names")


def shown(value: Any) -> str:
    """A cell in a message, cut short."""
    text = value if isinstance(value, str) else repr(value)
    return repr(text[:SHOWN] + "..." * (len(text) > SHOWN)) if isinstance(value, str) else text[:SHOWN]
