"""Rows that repeat others are left out; how that is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from core.rows.example import Example
from core.rows.image.picture import Picture
from core.rows.labels import Label

DUPLICATES = "duplicate rows in the target"
CONFLICTS = "rows of the target that repeat a text with another label"
CONFLICTS_OF = {"text": CONFLICTS, "picture": "rows of the target that repeat a picture with another label"}


def unique(
    rows: Sequence[Example], seen: dict[str, Label | None], dropped: Counter[str], reason: str = DUPLICATES
) -> list[Example]:
    """Rows whose text, or picture, is new; `seen`, the labels of these, grows by them."""
    kept = []
    for row in rows:
        if (key := row.key) not in seen:
            seen[key] = row.label
            kept.append(row)
        else:
            dropped[_repeats(row, seen[key], reason)] += 1
    return kept


def unpaired(
    rows: Sequence[Example], held: Mapping[str, Label | None], pair: Callable[[Example], str], dropped: Counter[str]
) -> list[Example]:
    """Rows whose `pair` is none of those that other sets hold, which have these labels."""
    kept = []
    for row in rows:
        if (key := pair(row)) not in held:
            kept.append(row)
        else:
            dropped[_repeats(row, held[key], DUPLICATES)] += 1
    return kept


def _repeats(row: Example, label: Label | None, reason: str) -> str:
    """Why a row is left out that repeats one with that label."""
    conflict = CONFLICTS_OF["picture" if isinstance(row.text[0], Picture) else "text"]
    return conflict if reason == DUPLICATES and label != row.label else reason


def why(dropped: Counter[str]) -> str:
    """What was left out, to end a sentence that complains of too few rows."""
    return f" (left out: {counted_reasons(dropped)})" if dropped else ""


def counted_reasons(dropped: Counter[str]) -> str:
    return ", ".join(f"{reason} ({count:,})" for reason, count in sorted(dropped.items()))
