"""An Excel workbook: the first sheet with cells."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from core.rows.faults import fault, listed, place, shown
from core.rows.files import kinds
from core.rows.files.asked import Asked
from core.rows.files.gather import Gathered, unique
from core.rows.files.header import looks_like_data, note_titles
from core.rows.files.unpack import CHUNK, check_directory

CELL_BYTES = 32  # of each place between the first cell and the last, used or not: they are made all at once
BATCH_ROWS = 10_000
PLACE = re.compile(rb"""\br\s*=\s*["']([A-Z]{1,3})(\d{1,7})["']""")
INDEX = re.compile(r"Unnamed: 0(\.\d+)?|")


def read(path: Path, gathered: Gathered, asked: Asked) -> bool:
    """Read a workbook into `gathered`; returns whether its first row names the columns."""
    import python_calamine

    _check_size(path, gathered.limits.max_bytes)
    try:
        book = python_calamine.load_workbook(str(path))
        sheets = [sheet.name for sheet in book.sheets_metadata if sheet.typ == python_calamine.SheetTypeEnum.WorkSheet]
        found = next(((name, rows) for name in sheets if (rows := book.get_sheet_by_name(name).to_python())), None)
    except (python_calamine.CalamineError, OSError, ValueError) as error:
        raise fault(f"is not readable as an Excel workbook: {shown(error)}; save it as CSV (UTF-8)") from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # of Rust, which Python takes for no Exception
            raise fault("is not readable as an Excel workbook: is it damaged? Save it as CSV (UTF-8)") from error
        raise
    if found is None:
        raise fault("is a workbook without cells")
    name, rows = found
    if others := [other for other in sheets if other != name]:
        gathered.note(f"It has {len(sheets)} sheets; '{shown(name)}' was read, and {listed(others)} left out.")
    rows = [row for row in rows if any(cell != "" for cell in row)]
    if asked.header is None and (above := _titles(rows)):
        note_titles([" ".join(str(cell) for cell in row if cell != "") for row in rows[:above]], gathered)
        del rows[:above]
    first = [str(cell) for cell in rows[0]]
    texts = [[str(cell) for cell in row] for row in rows[1:200]]
    header = asked.header
    if header is None:
        header = all(isinstance(cell, str) for cell in rows[0]) and not looks_like_data(first, texts)
        if not header:
            gathered.note(
                "Its first row looks like data and was kept as a row, and the columns are called column1, column2, "
                "...; if it names the columns, upload it again with header=true."
            )
    names = unique(first if header else [f"column{n}" for n in range(1, len(first) + 1)], gathered)
    del rows[: 1 if header else 0]
    for start in range(0, len(rows), BATCH_ROWS):
        some = rows[start : start + BATCH_ROWS]
        columns = {name: _cells([row[at] for row in some], start, name) for at, name in enumerate(names)}
        gathered.add(columns, len(some), start + 1)
    if header and rows:
        if len(names) > 1 and INDEX.fullmatch(first[0].strip()) and gathered.counts_rows(names[0]):
            gathered.skip(names[0], "counts the rows, as an index that pandas wrote")
            gathered.note("Its first column has no name and counts the rows, as an index of pandas; it was left out.")
        for name, given in zip(names, first, strict=True):
            if not given.strip() and gathered.is_empty(name):
                gathered.skip(name, "has neither name nor cells")
    return header


def _titles(rows: Sequence[Sequence[Any]]) -> int:
    """How many rows of titles, and one of headings over groups of columns, stand above one that names all columns."""
    above = 0
    if len(rows[0]) < 2:
        return 0
    while above < min(10, len(rows) - 2) and _filled(rows[above]) == 1 and (above or " " in str(rows[0][0])):
        above += 1
    below = rows[above + 2 : above + 200]
    if rows[above][0] != "" and 1 < _filled(rows[above]) < len(rows[above]) and _are_texts(rows[above]):
        # Else a column without a name above rows of texts would be one.
        above += any(not isinstance(cell, str) for row in below for cell in row)
    header = rows[above] if above < len(rows) else []
    named = _filled(header) == len(header) and _are_texts(header)
    texts = [[str(cell) for cell in row] for row in rows[above + 1 : above + 200]]
    return above if named and not looks_like_data([str(cell) for cell in header], texts) else 0


def _filled(row: Sequence[Any]) -> int:
    return sum(cell != "" for cell in row)


def _are_texts(row: Sequence[Any]) -> bool:
    return all(isinstance(cell, str) for cell in row)


def _cells(values: Sequence[Any], start: int, name: str) -> Any:
    plain = [_plain(value) for value in values]
    try:
        return kinds.typed(plain)
    except UnicodeEncodeError:
        raise fault(f"{place(start + 1)} or later, column '{shown(name)}': holds what is no character") from None


def _plain(value: Any) -> Any:
    if value == "":
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)  # a workbook has numbers of one kind only
    if isinstance(value, datetime):
        return value.isoformat(sep=" ") if value.time() != time() else value.date().isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    return value


def _check_size(path: Path, max_bytes: int) -> None:
    """Raise SpecError for a workbook that would take too much memory: a cell in the last corner makes all before it."""
    check_directory(path)
    size = 0
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                rows, columns, cells, tail = 0, 0, 0, b""
                with archive.open(entry) as data:
                    while chunk := data.read(CHUNK):
                        size += len(chunk)
                        if size > max_bytes:
                            raise fault(f"unpacks to more than {max_bytes:,} bytes; upload a part of it, as CSV")
                        if entry.filename.startswith("xl/worksheets/"):
                            for found in PLACE.finditer(tail + chunk):
                                columns, rows = max(columns, _number(found[1])), max(rows, int(found[2]))
                            tail = chunk[-40:]
                cells = rows * columns
                if cells * CELL_BYTES > max_bytes:
                    raise fault(
                        f"its sheet reaches to row {rows:,} and column {columns:,}, which is more than can be read; "
                        "save the table alone as CSV (UTF-8)"
                    )
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError, RuntimeError) as error:
        raise fault(f"is not readable as an Excel workbook: {shown(error)}") from error


def _number(letters: bytes) -> int:
    """A = 1, Z = 26, AA = 27."""
    number = 0
    for letter in letters:
        number = 26 * number + letter - 64
    return number
