"""Reads a file of any known kind into one Parquet table of plain, typed columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.rows.understood import Understood


@dataclass(frozen=True)
class Limits:
    """What a table may have at most; `max_bytes` once unpacked."""

    max_bytes: int
    max_rows: int
    max_columns: int  # that are kept: further ones are left out
    max_cell_chars: int


@dataclass(frozen=True)
class Asked:
    """What the user says of the file; None is found out."""

    delimiter: str | None = None
    encoding: str | None = None
    header: bool | None = None


def read(files: Sequence[Path], name: str, target: Path, limits: Limits, asked: Asked = Asked()) -> Understood:
    """Read files of one kind, one after the other, into `target`; `name` is what the user calls them.

    Raises SpecError('/file') that says what is wrong, in which row and line as a person counts them, and the mend.
    """
    raise NotImplementedError
