"""What the server made out of a file, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

FEW = 12  # columns, and values of one, that are shown
MANY = 60  # characters of a value, or name


def understood(dataset: Mapping[str, Any]) -> Iterator[str]:
    """Of a data set as the API answers it: a line of how it was read, one of its columns, and all that is odd.

    None of one that an earlier version of the server has read.
    """
    known = dataset.get("understood")
    if known is None:
        return
    yield f"{dataset['name']}: {known['rows']:,} rows"
    columns = [_column(facts) for facts in known["columns"][:FEW]]
    more = len(known["columns"]) - FEW
    yield "  columns: " + ", ".join(columns + [f"and {more} more"] * (more > 0))
    for skipped in known["skipped"][:FEW]:
        yield f"  left out: {_short(skipped['column'])}, which {skipped['why']}"
    for note in known["notes"]:
        yield f"  {note}"


def _column(facts: Mapping[str, Any]) -> str:
    said = [facts["type"]] + [f"{facts['empty']:,} empty"] * (facts["empty"] > 0)
    values = [f"{_short(value)} {count:,}" for value, count in list(facts["values"].items())[:FEW]]
    values += ["..."] * (len(facts["values"]) > FEW)
    return f"{_short(facts['name'])} ({', '.join(said)}{': ' if values else ''}{', '.join(values)})"


def _short(text: str) -> str:
    return text if len(text) <= MANY else f"{text[: MANY - 1]}…"
