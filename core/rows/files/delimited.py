"""Text with cells between delimiters: how it is written is found on its beginning, and DuckDB reads the rest so.

DuckDB has a sniffer of its own. It looks for what fits most lines, and takes the lines that do not fit, which may be
the header, for some to be skipped: so `text;score` over `a, b, c;1,5` has commas and no header for it. Here the
first line has to fit, too.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from core.rows.faults import fault, listed, place, shown
from core.rows.files.asked import Asked
from core.rows.files.encoding import Text
from core.rows.files.gather import Gathered, unique
from core.rows.files.header import looks_like_data, note_titles

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 2**20
SAMPLE_CHARS = 2**20
SAMPLE_ROWS = 2000
BATCH_ROWS = 16_384
MAX_LINE_CHARS = 16 * 2**20  # of a row, which may have several lines
BLANK = " \n,;\t"
MEMORY = "256MB"
DELIMITERS = {"\t": "tab", ";": "semicolon", "|": "|", ",": "comma"}  # that which texts hold themselves last
MIN_SHARE = 0.6  # of rows that have as many cells as most: with fewer, a sign is part of the texts
UNQUOTED = "are texts that hold the delimiter in double quotes?"
INDEX = re.compile(r"Unnamed: 0(\.\d+)?|__index_level_0__|")


@dataclass(frozen=True)
class Dialect:
    """How cells are written."""

    delimiter: str
    quote: str = '"'  # '' where quotes are signs like others
    backslash: bool = False  # whether \\" is a quote within a cell
    padded: bool = False  # whether spaces follow delimiters

    def reader(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """The rows of lines, strictly; raises csv.Error."""
        return csv.reader(
            _unescaped(lines) if self.backslash else lines,
            delimiter=self.delimiter,
            quotechar=self.quote or None,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            skipinitialspace=self.padded,
            strict=True,
        )


@dataclass(frozen=True)
class Layout:
    """Where a file's rows begin, and how many cells they have."""

    dialect: Dialect
    names: list[str] | None  # None: its first line is a row
    width: int
    first_line: int  # of the rows


def read(text: Text, gathered: Gathered, asked: Asked, folder: Path) -> Layout:
    """Read a text into `gathered`."""
    csv.field_size_limit(MAX_LINE_CHARS)
    with text.path.open(encoding="utf-8", newline="\n") as data:
        sample = data.read(SAMPLE_CHARS)
        whole = len(sample) < SAMPLE_CHARS
    lines = list(io.StringIO(sample))  # by \n alone: texts hold other ends of lines
    lines = lines if whole or len(lines) < 2 else lines[:-1]
    above, delimiter = _leading(lines, gathered)
    asked = asked if delimiter is None else replace(asked, delimiter=delimiter)
    dialect, titles = _dialect(lines[above:], asked, gathered)
    above += titles
    lines = lines[above:]
    layout = _layout(dialect, lines, asked, gathered, above + 1)
    if dialect.delimiter == "\t" and (why := _why_signs(text.path, layout, lines)):
        # Whoever writes tabs between cells often writes quotes as they come.
        gathered.note(f"Its quotes {why} and were kept as parts of the texts.")
        layout = _layout(replace(dialect, quote="", backslash=False), lines, asked, gathered, above + 1)
    if text.nul_line is not None:
        raise _nul_fault(text, layout)
    body = folder / "body"
    try:
        _write_body(text.path, body, layout)
        names = _names(layout, gathered)
        _load(body, names, layout, gathered, folder)
    finally:
        body.unlink(missing_ok=True)
    _leave_out(names, layout, gathered)
    return layout


def _leading(lines: Sequence[str], gathered: Gathered) -> tuple[int, str | None]:
    """How many lines come before the table (blank ones, Excel's `sep=`, comments), and the delimiter that is named."""
    first = next((line for line in lines if line.strip(BLANK) and not line.startswith("#")), "")
    delimiter, comments = None, False
    for number, line in enumerate(lines):
        if (found := re.fullmatch(r'"?sep=(.)"?\s*', line)) and delimiter is None:
            delimiter = found[1]
            first = next((one for one in lines[number + 1 :] if one.strip(BLANK)), "")
            gathered.note(f"Its line '{shown(line.strip())}' names the delimiter and was skipped.")
        elif line.startswith("#") and first and any(line.count(sign) != first.count(sign) for sign in DELIMITERS):
            comments = True  # and no header that begins so, which would have the delimiters of the lines below
        elif line.strip(BLANK):
            if comments:
                gathered.note("Lines of comment ('#') at its beginning were skipped.")
            return number, delimiter
    raise fault("is empty")


def _dialect(lines: Sequence[str], asked: Asked, gathered: Gathered) -> tuple[Dialect, int]:
    """What fits the most lines and the first one, and how many lines of a title stand above that."""
    given = asked.delimiter
    if given is not None and (len(given) != 1 or given in '"\n\r\\'):
        raise fault(f"the delimiter '{shown(given)}' is not one character that stands between cells")
    candidates = [
        Dialect(delimiter, quote, backslash)
        for delimiter in (DELIMITERS if given is None else [given])
        for quote, backslash in (("'", False), ('"', False), ('"', True))
        if (quote != "'" or _in_quotes(lines, delimiter, "'")) and (not backslash or any('\\"' in one for one in lines))
    ]
    best = max(candidates, key=lambda one: _fit(one, lines))  # of equal ones the first
    if _fit(best, lines)[0] >= MIN_SHARE:
        if above := _filled_titles(best, lines):
            note_titles([line.strip() for line in lines[:above] if line.strip(BLANK)], gathered)
        return _padded(best, lines[above:]), above
    if titles := _titles(lines, candidates):
        above, dialect = titles
        note_titles([line.strip() for line in lines[:above] if line.strip(BLANK)], gathered)
        return _padded(dialect, lines[above:]), above
    if given is not None:
        return _padded(Dialect(given), lines), 0
    # No sign stands between cells as a rule: a header of several short names says what was meant.
    first = lines[0].strip()
    for sign in DELIMITERS:
        cells = first.split(sign)
        if len(cells) > 1 and all(0 < len(cell.split()) <= 3 and cell.strip()[-1] not in ".!?…" for cell in cells):
            return Dialect(sign), 0
    often = max(DELIMITERS, key=lambda sign: sum(sign in line for line in lines))
    if (count := sum(often in line for line in lines)) * 4 > len(lines):
        gathered.note(
            f"It was read as one column: {count:,} of its first {len(lines):,} lines hold a {DELIMITERS[often]}, but "
            "not the same number of them."
        )
    quoted = _rows(Dialect("\x1f"), lines) is not None
    return Dialect("\x1f", '"' if quoted else ""), 0


def _in_quotes(lines: Sequence[str], delimiter: str, quote: str) -> bool:
    """Whether cells are written in such quotes as a rule."""
    some = [line.strip() for line in lines[:50] if line.strip()]
    found = sum(f"{quote}{delimiter}" in line and line.startswith(quote) for line in some)
    return found > 0.8 * len(some)


def _fit(dialect: Dialect, lines: Sequence[str]) -> tuple[float, float]:
    """The share of rows with as many cells as most, halved where the first has not; and how many cells that is."""
    dialect = replace(dialect, padded=True)
    rows = _rows(dialect, lines)
    strict = rows is not None
    if rows is None:  # to the line that is at fault: enough to say how the others are written
        rows = list(_until_error(dialect, lines))
    rows = [row for row in rows if any(row)]
    if not rows:
        return (-1.0, 0)
    below = Counter(map(len, rows[1:] or rows))
    width, count = max(below.items(), key=lambda item: (item[1], item[0]))
    if width < 2:
        return (0.0, width)
    fits = _headed(rows[0], [row for row in rows[1:] if len(row) == width], width) is not None
    share = count / max(1, len(rows) - 1)
    return (round((share if fits else share / 2) * (1 if strict else 0.9), 2), width)


def _headed(first: Sequence[str], usual: Sequence[Sequence[str]], width: int) -> list[str] | None:
    """The first row with as many cells as those below have; None where it cannot be meant to have them.

    R's write.table names no index; a delimiter at the end of each row makes a cell that none names, and the header may
    have one alone.
    """
    if len(first) == width:
        return list(first)
    if len(first) > width:
        return _trimmed(first) if len(_trimmed(first)) == width else None
    if len(first) + 1 == width and usual and _count_up([row[0] for row in usual]):
        return ["", *first]
    empty = usual and all(not any(cell.strip() for cell in row[len(first) :]) for row in usual)
    return [*first, *[""] * (width - len(first))] if empty else None


def _trimmed(row: Sequence[str]) -> list[str]:
    """Without empty cells at its end."""
    end = len(row)
    while end and not row[end - 1].strip():
        end -= 1
    return list(row[:end])


def _rows(dialect: Dialect, lines: Sequence[str]) -> list[list[str]] | None:
    """The first rows; None where they are not written so."""
    try:
        return list(islice(dialect.reader(lines), SAMPLE_ROWS))
    except csv.Error as error:
        # The end of the sample may stand within quotes.
        cut = "unexpected end" in str(error) and sum(map(len, lines)) > SAMPLE_CHARS // 2
        return list(_until_error(dialect, lines)) if cut else None


def _until_error(dialect: Dialect, lines: Iterable[str]) -> Iterator[list[str]]:
    try:
        yield from islice(dialect.reader(lines), SAMPLE_ROWS)
    except csv.Error:
        return


def _filled_titles(dialect: Dialect, lines: Sequence[str]) -> int:
    """How many lines of a title stand above the table with delimiters at their ends, as a spreadsheet writes them."""
    rows = list(islice(_until_error(dialect, lines), 12))
    above = 0
    while above < len(rows) - 2 and len(_trimmed(rows[above])) <= 1 and (above or " " in rows[above][0].strip()):
        above += 1
    header = rows[above] if above else []
    return above if header and all(cell.strip() for cell in header) else 0


def _titles(lines: Sequence[str], candidates: Sequence[Dialect]) -> tuple[int, Dialect] | None:
    """How many lines of a title stand above the table: few, without cells, and apart from it or above a true header."""
    for above in range(1, min(10, len(lines) - 2)):
        if not lines[above].strip() or not any(" " in line.strip() or not line.strip() for line in lines[:above]):
            continue
        for dialect in candidates:
            if all(dialect.delimiter not in line.strip(dialect.delimiter + " \n") for line in lines[:above]):
                share, width = _fit(dialect, lines[above:])
                rows = list(_until_error(dialect, lines[above:]))
                if share > 0.9 and width > 1 and not looks_like_data(rows[0], rows[1:]):
                    return above, dialect
    return None


def _padded(dialect: Dialect, lines: Sequence[str]) -> Dialect:
    """With whether a space follows the delimiters, as a rule, which is then none of the cell's."""
    if dialect.delimiter not in DELIMITERS or dialect.delimiter == "\t":
        return dialect
    rows = [row for row in _until_error(dialect, lines) if len(row) > 1]
    spaced = sum(all(cell.startswith(" ") for cell in row[1:] if cell) and any(row[1:]) for row in rows)
    header = bool(rows) and any(cell.startswith(" ") for cell in rows[0][1:])
    if (header or spaced == len(rows)) and spaced > 0.9 * len(rows):
        return replace(dialect, padded=True)
    return dialect


def _layout(dialect: Dialect, lines: Sequence[str], asked: Asked, gathered: Gathered, first_line: int) -> Layout:
    """How many cells a row has, and whether the first row names them."""
    reader = dialect.reader(lines)
    try:
        first = next(row for row in reader if any(cell.strip() for cell in row))
    except csv.Error as error:
        raise fault(f"line {first_line + reader.line_num - 1:,}: {_csv_words(str(error))}") from error  # type: ignore[attr-defined]
    used = reader.line_num  # type: ignore[attr-defined]
    rows = [row for row in _until_error(dialect, lines[used:]) if row]
    widths = Counter(map(len, rows))
    width = max(widths.items(), key=lambda item: (item[1], item[0]))[0] if widths else len(first)
    usual = [row for row in rows if len(row) == width]
    header = asked.header
    if header is None:
        header = len(first) != width or not looks_like_data(first, usual[:200])
        if not header:
            said = " | ".join(shown(cell, 30) for cell in first[:3])
            gathered.note(
                f"Its first line ('{said}') looks like data and was kept as a row, and the columns are called column1, "
                "column2, ...; if it names the columns, upload it again with header=true."
            )
    if not header:
        if len(first) != width and rows:
            width = max(len(first), width) if widths[len(first)] else width
        return Layout(dialect, None, width, first_line)
    names = _headed(first, usual, width) if rows else list(first)
    if names is None:
        raise fault(
            f"line {first_line + used:,} has {width:,} cells, as most lines have, but the header names {len(first):,} "
            f"columns ({listed(list(first))}); {UNQUOTED}"
        )
    _note_commas(names, usual, gathered)
    return Layout(dialect, names, len(names), first_line + used)


def _note_commas(names: Sequence[str], rows: Sequence[Sequence[str]], gathered: Gathered) -> None:
    """Numbers with a comma for a point are texts here: say so."""
    for name, cells in zip(names, zip(*rows, strict=True), strict=False):
        some = [cell for cell in cells if cell.strip()]
        if any("," in cell for cell in some) and all(re.fullmatch(r"\s*[-+]?\d+(,\d+)?\s*", cell) for cell in some):
            gathered.note(f"Column '{shown(name)}' holds numbers with a decimal comma; they are kept as written.")


def _count_up(cells: Sequence[str]) -> bool:
    return all(re.fullmatch(r'"?\d+"?', cell) for cell in cells) and len(set(cells)) == len(cells)


def _count(path: Path, layout: Layout) -> int | None:
    """How many rows there are; None where some do not go by the dialect, or have not as many cells."""
    count = 0
    try:
        for row in layout.dialect.reader(_lines(path, layout.first_line)):
            if row and len(row) != layout.width:
                return None
            count += bool(row)
    except csv.Error:
        return None
    return count


def _why_signs(path: Path, layout: Layout, lines: Sequence[str]) -> str | None:
    """Why quotes are signs like others: they go in no pairs, or every line that lies in a cell is a row, too."""
    count = _count(path, layout)
    if count is None:
        return "do not go in pairs"
    if layout.width < 2 or _in_quotes(lines, layout.dialect.delimiter, layout.dialect.quote):
        return None
    rows = _count(path, replace(layout, dialect=replace(layout.dialect, quote="")))
    return "stand around whole rows" if rows is not None and rows > count else None


def _has_late_quotes(path: Path, layout: Layout) -> bool:
    """Whether quotes behind spaces are signs like others, where each would open a cell for DuckDB."""
    dialect = layout.dialect
    if not dialect.quote:
        return False
    with path.open(encoding="utf-8", newline="\n") as data:
        some = iter(lambda: data.read(CHUNK) + data.readline(), "")
        before = (part.rstrip(" ")[-1:] for lines in some for part in lines.split(f" {dialect.quote}")[:-1])
        if {"", "\n", dialect.delimiter}.isdisjoint(before):
            return False
    count = _count(path, layout)
    return count not in (None, _count(path, replace(layout, dialect=replace(dialect, padded=True))))


def _names(layout: Layout, gathered: Gathered) -> list[str]:
    if layout.names is None:
        return [f"column{number}" for number in range(1, layout.width + 1)]
    if layout.dialect.padded:
        gathered.note("Spaces between delimiters and cells were taken off.")
    return unique(layout.names, gathered)


def _unescaped(lines: Iterable[str]) -> Iterator[str]:
    """With quotes that are doubled where they had a backslash."""
    for line in lines:
        yield re.sub(r'\\(["\\])', lambda found: '""' if found[1] == '"' else "\\", line) if "\\" in line else line


def _lines(path: Path, first_line: int) -> Iterator[str]:
    """The lines of a text from one on."""
    with path.open(encoding="utf-8", newline="\n") as data:
        for number, line in enumerate(iter(lambda: data.readline(MAX_LINE_CHARS + 1), ""), 1):
            if len(line) > MAX_LINE_CHARS:
                raise fault(f"line {number:,}: has more than {MAX_LINE_CHARS:,} characters")
            if number >= first_line:
                yield line


def _write_body(path: Path, body: Path, layout: Layout) -> None:
    """The rows alone, in a dialect that DuckDB knows."""
    dialect = layout.dialect
    with body.open("w", encoding="utf-8", newline="\n") as out:
        if dialect.padded or _has_late_quotes(path, layout):
            rows = dialect.reader(_lines(path, layout.first_line))
            if dialect.padded and any(name != name.rstrip() for name in (layout.names or [])[:-1]):
                rows = ([cell.rstrip() for cell in row] for row in rows)
            writer = csv.writer(out, delimiter=dialect.delimiter, quotechar=dialect.quote, lineterminator="\n")
            try:
                writer.writerows(filter(None, rows))
            except csv.Error as error:
                raise _fault(path, layout) from error
        elif dialect.backslash:
            out.writelines(_unescaped(_lines(path, layout.first_line)))
        else:
            with path.open(encoding="utf-8", newline="\n") as data:
                for _ in range(layout.first_line - 1):
                    data.readline()
                while chunk := data.read(CHUNK):
                    out.write(chunk)


def _load(body: Path, names: Sequence[str], layout: Layout, gathered: Gathered, folder: Path) -> None:
    import duckdb

    quote = layout.dialect.quote
    options = {"threads": 1, "memory_limit": MEMORY, "temp_directory": str(folder / "duckdb")}
    options |= {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    if not body.stat().st_size:
        return
    done = 0
    with duckdb.connect(config=options) as engine:  # type: ignore[arg-type]
        engine.execute(f"SET allowed_paths = [{_quoted(str(body))}]")
        engine.execute("SET enable_external_access = false")
        engine.execute("SET enable_progress_bar = false")  # which it takes a process without a script for a terminal's
        engine.execute("SET lock_configuration = true")
        columns = ", ".join(f"'{number}': 'VARCHAR'" for number in range(layout.width))
        query = (
            f"FROM read_csv({_quoted(str(body))}, auto_detect = false, header = false, new_line = '\\n', "
            f"delim = {_quoted(layout.dialect.delimiter)}, quote = {_quoted(quote)}, escape = {_quoted(quote)}, "
            f"columns = {{{columns}}}, force_not_null = [{', '.join(repr(str(n)) for n in range(layout.width))}], "
            f"max_line_size = {4 * MAX_LINE_CHARS}, null_padding = false, strict_mode = true)"
        )
        try:
            for batch in engine.sql(query).to_arrow_reader(BATCH_ROWS):
                _add(batch, names, done, layout, gathered)
                done += batch.num_rows
        except duckdb.OutOfMemoryException as error:
            raise MemoryError from error
        except duckdb.Error as error:
            raise _fault(body, layout, str(error)) from error


def _add(batch: pa.RecordBatch, names: Sequence[str], done: int, layout: Layout, gathered: Gathered) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [column.cast(pa.string()) for column in batch.columns]
    kept = None
    if layout.width == 1:  # where a blank line is no row, as it is none in a table of more columns
        kept = pc.not_equal(pc.utf8_trim_whitespace(columns[0]), "")
    elif layout.names is not None and columns[0].index(layout.names[0]).as_py() >= 0:
        named = [pc.equal(column, name) for column, name in zip(columns, layout.names, strict=True)]
        kept = pc.invert(reduce(pc.and_, named))
        if pc.any(pc.invert(kept)).as_py():
            gathered.note("Rows that repeat the names of the columns, as joined files have them, were left out.")
    if kept is not None:
        columns = [column.filter(kept) for column in columns]
    cells = {name: ("text", column) for name, column in zip(names, columns, strict=True)}
    gathered.add(cells, len(columns[0]), done + 1)


def _fault(path: Path, layout: Layout, told: str = "") -> Exception:
    """What is wrong with the rows, and where: found by reading them once more, slowly.

    `path` holds the rows alone where `told` is what DuckDB said, and else the whole text.
    """
    start = 1 if told else layout.first_line
    offset = layout.first_line - start  # of the lines of `path` to those of the file
    dialect = Dialect(layout.dialect.delimiter, layout.dialect.quote) if told else layout.dialect
    reader = dialect.reader(_lines(path, start))
    row, began = 0, start
    try:
        for cells in reader:
            row += bool(cells)
            if cells and len(cells) != layout.width:
                named = "the header names" if layout.names is not None else "most rows have"
                cause = UNQUOTED if len(cells) > layout.width else "is a delimiter missing, or a quote not closed?"
                return fault(
                    f"{place(row, began + offset)}: {len(cells):,} {'cell' if len(cells) == 1 else 'cells'}, but "
                    f"{named} {layout.width:,} {'columns' if layout.names is not None else ''}".rstrip()
                    + f"; {cause}"
                )
            began = start + reader.line_num  # type: ignore[attr-defined]
    except csv.Error as error:
        return fault(f"{place(row + 1, began + offset)}: {_csv_words(str(error))}")
    said = next((line for line in told.splitlines() if line.strip() and "CSV Error" not in line), "")
    return fault(f"is not readable as delimited text: {shown(said, 200)}")


def _csv_words(error: str) -> str:
    if "unexpected end" in error:
        return "a quote that is opened is never closed"
    if "field larger" in error:
        return f"a cell of more than {MAX_LINE_CHARS:,} characters; is a quote not closed?"
    if "expected after" in error:
        return 'something stands behind a closing quote; a quote within a text is to be doubled ("")'
    return shown(error)


def _nul_fault(text: Text, layout: Layout) -> Exception:
    """The row of the first NUL, in the rows as they come."""
    row = 0
    assert text.nul_line is not None
    reader = layout.dialect.reader(line.replace("\0", " ") for line in _lines(text.path, layout.first_line))
    try:
        for cells in reader:
            row += bool(cells)
            if layout.first_line + reader.line_num > text.nul_line:  # type: ignore[attr-defined]
                break
    except csv.Error:
        row += 1
    where = place(row, text.nul_line) if text.nul_line >= layout.first_line else f"line {text.nul_line:,}"
    return fault(f"{where}: holds a NUL character, which no text has; take it out, or save the file as UTF-8 text")


def _leave_out(names: Sequence[str], layout: Layout, gathered: Gathered) -> None:
    """An index that pandas or R wrote, and columns without name and cells."""
    if layout.names is None or not gathered.rows:
        return
    given = dict(zip(names, layout.names, strict=True))
    first = names[0]
    if len(names) > 1 and INDEX.fullmatch(given[first].strip()) and gathered.counts_rows(first):
        gathered.skip(first, "counts the rows, as an index that pandas wrote")
        gathered.note("Its first column has no name and counts the rows, as an index of pandas; it was left out.")
    unnamed = [name for name in names if not given[name].strip() and name not in gathered.skipped]
    empty = [name for name in unnamed if gathered.is_empty(name)]
    for name in empty:
        gathered.skip(name, "has neither name nor cells")
    if empty:
        plural = "columns without name and cells were" if len(empty) > 1 else "column without name and cells was"
        gathered.note(f"{len(empty)} {plural} left out.")
    if kept := [name for name in unnamed if name not in gathered.skipped]:
        gathered.note(f"Columns without a name were called {listed(kept)}.")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
