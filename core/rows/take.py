"""A file that is taken in: read into a table, and known again by its sha256; and the first rows of that table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.rows.files.asked import Asked, Limits
from core.rows.files.read import read
from core.rows.files.understood import Understood
from core.rows.table import Seen, preview

MAX_CHARS = 1000  # of a cell that is shown


@dataclass(frozen=True)
class Taken:
    """What came of files: of all of them, one after the other, the sha256."""

    understood: Understood
    sha256: str


def take(
    files: Sequence[Path],
    name: str,
    target: Path,
    limits: Limits,
    asked: Asked,
    class_names: Mapping[str, Sequence[str]] | None = None,
) -> Taken:
    """As `core.rows.files.read.read`, which writes `target`."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as data:
            hashlib.file_digest(data, lambda: digest)
    return Taken(read(files, name, target, limits, asked, class_names), digest.hexdigest())


def show(parquet: Path, rows: int) -> list[dict[str, Any]]:
    """The first rows of a stored table; what is long is shortened."""
    return [{name: _short(cell) for name, cell in row.items()} for row in preview(parquet, rows)]


def _short(cell: Any) -> Any:
    if isinstance(cell, Seen):
        return cell
    text = cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)
    return cell if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}…"
