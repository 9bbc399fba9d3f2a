"""A column of a stored table, as labels and texts are read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# In a stored Parquet file, metadata of a field: the names of classes that are kept as numbers, as a JSON array; and
# whether its texts are JSON of what was nested; and whether it holds pictures.
NAMES, NESTED, PICTURE = b"topwork.names", b"topwork.nested", b"topwork.picture"


@dataclass(frozen=True)
class Column:
    """Cells of one type: str, int, float, bool, lists of one of these, or pictures; None where there is no answer.

    An empty cell of a CSV is '' and not None: there, the two cannot be told apart.
    """

    values: Sequence[Any]
    names: tuple[str, ...] | None = None  # of classes: a whole number in a cell, or in its list, is a place here
    nested: bool = False  # each cell is JSON of an object, or of a list of what is no plain value
    pictures: bool = False  # each cell is a core.rows.image.picture.Picture


Table = Mapping[str, Column]  # by name, in the order of the file
