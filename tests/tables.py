"""Tables as a job reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.rows.columns import Column, Table


def columns(**cells: Sequence[Any] | Column) -> Table:
    """A table of these columns; cells are given, or a whole column."""
    return {name: part if isinstance(part, Column) else Column(part) for name, part in cells.items()}
