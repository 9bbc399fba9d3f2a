"""Two models on the same rows: by how much the one is more often right, with the interval that pairs allow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import zip_longest
from math import sqrt
from typing import Any

from core.ledger.storage import Storage
from core.ledger.tables import File
from core.spec.report import Interval

MAX_BYTES = 16 * 2**20  # of each file that is read
Z95 = 1.959964


def change(storage: Storage, first: File, second: File) -> Interval | None:
    """Accuracy of the second less that of the first; None unless both have one label a row, of the same rows.

    Agresti and Min (2005): half an observation is added to each cell of the table of pairs.
    """
    if max(first.size_bytes, second.size_bytes) > MAX_BYTES:
        return None
    better = worse = rows = 0
    for one, other in zip_longest(_rows(storage, first), _rows(storage, second)):
        if one is None or other is None or one[:2] != other[:2] or not isinstance(one[1], str | int):
            return None
        right, right_too = one[2] == one[1], other[2] == other[1]
        rows, better, worse = rows + 1, better + (right_too and not right), worse + (right and not right_too)
    return _interval(better, worse, rows) if rows else None


def _interval(better: int, worse: int, rows: int) -> Interval:
    many, more, less = rows + 2, better + 0.5, worse + 0.5
    middle = (more - less) / many
    half = Z95 * sqrt(more + less - (more - less) ** 2 / many) / many
    return Interval(value=(better - worse) / rows, low=middle - half, high=middle + half)


def _rows(storage: Storage, file: File) -> Iterator[tuple[Any, Any, Any]]:
    with storage.open(file.sha256) as lines:
        for line in lines:
            row = json.loads(line)
            yield row.get("text", row.get("image")), row.get("label"), row.get("predicted")
