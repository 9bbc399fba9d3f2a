"""What is asked of reading: bounds, and what the user says of the file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a table may have at most; `max_bytes` once unpacked, where a cell counts as 8 at least."""

    max_bytes: int
    max_rows: int
    max_columns: int  # that are kept: further ones are left out
    max_cell_chars: int  # longer cells are cut


@dataclass(frozen=True)
class Asked:
    """What the user says of the file; None is found out."""

    delimiter: str | None = None
    encoding: str | None = None
    header: bool | None = None
