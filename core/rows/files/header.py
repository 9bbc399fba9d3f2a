"""Whether the first row of a table names its columns, or is a row like the others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median

from core.rows.faults import shown
from core.rows.files.gather import Gathered

LONG_WORDS = 8  # of a name: more is a sentence
LIKE = 3.0  # times as long, or short, as the cells below


def looks_like_data(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a first row is more like the rows below it than like names: `rows` are some of those.

    It is where a number stands over numbers, where a cell comes again below, or where prose stands over prose.
    """
    again = sum(list(row) == list(first) for row in rows)
    if again > 1 and again * 20 > len(rows):
        return True
    below = [row for row in rows if list(row) != list(first)] or list(rows)  # files that were joined repeat a header
    columns = list(zip(*below, strict=True)) if below else []
    return any(
        _like(name.strip(), [cell.strip() for cell in cells if cell.strip()])
        for name, cells in zip(first, columns, strict=False)
    )


def note_titles(titles: Sequence[str], gathered: Gathered) -> None:
    """Say what was taken for a title above a table."""
    said = " / ".join(shown(title, 40) for title in titles)
    gathered.note(f"What stands above the names of its columns was skipped as a title: '{said}'.")


def _like(name: str, cells: Sequence[str]) -> bool:
    if not name or not cells:
        return False
    if _is_number(name):
        return sum(map(_is_number, cells)) > 0.9 * len(cells)
    if name in cells:
        return True
    words, usual = len(name.split()), median(len(cell) for cell in cells)
    prose = words >= LONG_WORDS or (words > 2 and name[-1] in '.!…"')
    return prose and usual / LIKE < len(name) < usual * LIKE


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"\s*[-+]?(\d+([.,]\d+)*|[.,]\d+)([eE][-+]?\d+)?\s*%?", text))
