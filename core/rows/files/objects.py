"""JSON: objects one after the other, in lines or in an array, and the tables that pandas and others make of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from core.rows.faults import fault, listed, place, shown
from core.rows.files import kinds
from core.rows.files.gather import MAX_NAME_CHARS, MAX_SEEN, Gathered, unique
from core.rows.files.header import looks_like_data

CHUNK = 2**20
MAX_ROW_CHARS = 16 * 2**20  # of one value: Python may take 20 times as much for what is in it
BATCH_ROWS, BATCH_CHARS, BATCH_CELLS = 10_000, 4 * 2**20, 2**19
SPACE = re.compile(r"[\s,]*")
SPLIT = re.compile(
    r"(.*[\W_])?(train|training|valid|validation|val|dev|test|testing|eval)([\W_]?(set|data))?", re.IGNORECASE
)
SAMPLE_ROWS = 200
MANY = 20  # times as many keys in each object as there are objects
LINES = "write it as JSON lines: one object a line (pandas: to_json(orient='records', lines=True))"

Row = tuple[int, int, dict[str, Any]]  # the line where it begins, its characters, the row


def begins_json(text: str) -> bool:
    """Whether a text is JSON by its beginning: a first value that is an object, or an array of objects or arrays."""
    start = text.lstrip()
    if start[:1] == "[":
        return start[1:].lstrip()[:1] in ("{", "[", "]")
    if start[:1] != "{":
        return False
    try:
        _decoder().raw_decode(start)
    except json.JSONDecodeError as error:
        return bool(re.match(r'\{\s*"(\\.|[^"\\])*"\s*:', start)) and error.pos > 1
    except (RecursionError, ValueError):
        pass
    return True


def read(path: Path, gathered: Gathered, lines: bool, header: bool | None = None) -> str:
    """Read a text into `gathered`; returns `jsonl`, or `json` for one array or one table.

    Where its name says `lines`, one object with lists is a row, and not a table by columns. `header`: whether the
    first of arrays in an array names the columns; None is found out.
    """
    with path.open(encoding="utf-8", newline="\n") as data:
        head = data.read(CHUNK).lstrip()
    if not head:
        raise fault("is empty")
    values = _values(path)
    if head[0] == "[":
        some = list(islice(values, SAMPLE_ROWS))
        if some and _is_array(some[0][2]):
            _load(_named(some, values, gathered, header), gathered)
        else:
            _load(_rows(chain(some, values)), gathered)
        return "json"
    first = next(values)
    second = next(values, None)
    if second is None and isinstance(first[2], dict) and (table := _table(first[2], gathered, lines)) is not None:
        _load(((0, 0, row) for row in table), gathered)
        return "json"
    if second is None and isinstance(first[2], dict) and not lines:
        gathered.note("It is one object, and was read as one row; give several as an array, or one a line.")
    _load(_rows(chain([first] if second is None else [first, second], values)), gathered)
    return "jsonl"


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(parse_constant=lambda name: None if name == "NaN" else float(name.replace("inity", "")))


def _values(path: Path) -> Iterator[tuple[int, int, Any]]:
    """The values of a text, or of the array that it is, one after the other: line, characters, value."""
    decode = _decoder().raw_decode
    with path.open(encoding="utf-8", newline="\n") as data:
        buffer, at, line = data.read(CHUNK), 0, 1
        start = len(buffer) - len(buffer.lstrip())
        array = buffer[start : start + 1] == "["
        line += buffer.count("\n", 0, start)
        at = start + array
        while True:
            end = SPACE.match(buffer, at).end()  # type: ignore[union-attr]
            line += buffer.count("\n", at, end)
            at = end
            if at == len(buffer):
                if not (buffer := data.read(CHUNK)):
                    if array:
                        raise fault(f"line {line:,}: its array is not closed; is it cut off?")
                    return
                at = 0
                continue
            if array and buffer[at] == "]":
                rest = (buffer[at + 1 :] + data.read(CHUNK)).strip()
                if rest:
                    raise fault(f"line {line:,}: something follows the end of its array; {LINES}")
                return
            try:
                value, end = decode(buffer, at)
                if end == len(buffer) and (more := data.read(CHUNK)):  # a number may go on
                    buffer, at = buffer[at:] + more, 0
                    continue
            except json.JSONDecodeError as error:
                size = len(buffer) - at
                if size < MAX_ROW_CHARS and (more := data.read(max(CHUNK, size))):
                    buffer, at = buffer[at:] + more, 0
                    continue
                where = line + buffer.count("\n", at, error.pos)
                if size >= MAX_ROW_CHARS and error.pos > at + MAX_ROW_CHARS - CHUNK:
                    raise fault(f"line {line:,}: a value of more than {MAX_ROW_CHARS:,} characters; {LINES}") from error
                raise fault(f"line {where:,}: is not JSON: {shown(error.msg)}") from error
            except RecursionError as error:
                raise fault(f"line {line:,}: is nested too deeply") from error
            except ValueError as error:  # a number of thousands of digits
                raise fault(f"line {line:,}: is not JSON that can be read: {shown(error)}") from error
            yield line, end - at, value
            line += buffer.count("\n", at, end)
            at = end


def _rows(values: Iterator[tuple[int, int, Any]]) -> Iterator[Row]:
    for number, (line, size, value) in enumerate(values, 1):
        if not isinstance(value, dict):
            what = {list: "an array", str: "a text", bool: "true or false", type(None): "null"}.get(
                type(value), "a number"
            )
            raise fault(f'{place(number, line)}: is {what}, and no JSON object ({{"column": ...}})')
        yield line, size, value


def _named(
    some: Sequence[tuple[int, int, Any]],
    values: Iterator[tuple[int, int, Any]],
    gathered: Gathered,
    header: bool | None,
) -> Iterator[Row]:
    """Rows of arrays of as many cells, of which `some` are the first; the very first may name the columns."""
    first = some[0][2]
    if header is None:
        texts = [["" if cell is None else str(cell) for cell in row] for _, _, row in some[1:] if _is_array(row)]
        usual = [row for row in texts if len(row) == len(first)]
        header = all(isinstance(cell, str) for cell in first) and not looks_like_data(first, usual)
        if not header:
            gathered.note(
                "Its first row looks like data and was kept as a row, and the columns are called column1, column2, "
                "...; if it names the columns, upload it again with header=true."
            )
    names = unique([str(cell) if header else f"column{n}" for n, cell in enumerate(first, 1)], gathered)
    for number, (line, size, row) in enumerate(chain(some[header:], values), 1):
        if not _is_array(row) or len(row) != len(names):
            raise fault(f"{place(number, line)}: is no array of {len(names):,} texts or numbers, as the first is")
        yield line, size, dict(zip(names, row, strict=True))


def _is_array(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and not any(isinstance(cell, list | dict) for cell in value)


def _table(value: dict[str, Any], gathered: Gathered, lines: bool) -> list[dict[str, Any]] | None:
    """The rows of one object that is a table: by columns, as pandas writes it, or in one of its keys."""
    columns = list(value.values())
    parts = [key for key, part in value.items() if isinstance(part, list | dict)]
    if len(parts) > 1 and all(map(SPLIT.fullmatch, parts)):
        raise fault(f"holds the splits {listed(parts)}: write each as a file")
    if isinstance(value.get("data"), list) and isinstance(value.get("columns"), list):
        names = unique([str(name) for name in value["columns"]], gathered)
        if all(isinstance(row, list) and len(row) == len(names) for row in value["data"]):
            return [dict(zip(names, row, strict=True)) for row in value["data"]]
    if isinstance(value.get("data"), list) and isinstance(value.get("schema"), dict):
        fields = value["schema"].get("fields")
        given = value["schema"].get("primaryKey")
        keys = {key for key in given if isinstance(key, str)} if isinstance(given, list) else set()
        if isinstance(fields, list) and all(isinstance(row, dict) for row in value["data"]):
            return [{key: cell for key, cell in row.items() if key not in keys} for row in value["data"]]
    if columns and all(isinstance(column, dict) and column for column in columns):
        first = list(columns[0])
        plain = all(_are_plain(column.values()) for column in columns)
        many = _are_numbers(first) or len(first) > MANY * len(columns)  # keys of rows, and not names of columns
        if plain and many and all(list(column) == first for column in columns):
            gathered.note("It is one object with a column for each of its keys, as pandas writes it.")
            return [{name: column[key] for name, column in value.items()} for key in first]
        if plain and _are_alike(columns) and (_are_numbers(value) or (len(columns) > 1 and not lines)):
            gathered.note("It is one object with a row for each of its keys, as pandas writes it (orient='index').")
            return columns
    if columns and not lines and all(isinstance(column, list) for column in columns):
        lengths = {len(column) for column in columns}
        if len(lengths) == 1 and (len(columns) > 1 or not all(isinstance(row, dict) for row in columns[0])):
            if lengths == {0}:
                return []
            gathered.note("It is one object with a column for each of its keys.")
            return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    tables = [key for key, column in value.items() if isinstance(column, list) and column and _are_objects(column)]
    if len(tables) == 1 and not lines:
        others = [key for key in value if key != tables[0]]
        left = f"; {listed(others)} beside it {'was' if len(others) == 1 else 'were'} left out" if others else ""
        gathered.note(f"Its rows are those under '{shown(tables[0])}'{left}.")
        return list(value[tables[0]])
    return None


def _are_numbers(keys: Iterable[str]) -> bool:
    return all(key.lstrip("-").isdigit() for key in keys)


def _are_alike(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether rows have keys in common, and most of all keys each."""
    common, known = set(rows[0]).intersection(*rows), set[str]().union(*rows)
    return bool(common) and all(2 * len(row) >= len(known) for row in rows)


def _are_objects(values: Sequence[Any]) -> bool:
    return all(isinstance(value, dict) for value in values)


def _are_plain(values: Any) -> bool:
    return True if not values else not all(isinstance(value, dict) for value in values)


def _load(rows: Iterator[Row], gathered: Gathered) -> None:
    """Rows as batches of columns, in the order in which their keys come."""
    names: dict[str, None] = {}
    batch: list[Row] = []
    size, first = 0, 1

    def flush() -> None:
        nonlocal first
        gathered.add(
            {name: _cells(name, batch, first) for name in names}, len(batch), first, lambda row: batch[row][0] or None
        )
        first += len(batch)
        batch.clear()

    for line, chars, row in rows:
        if not row.keys() <= names.keys():
            for name in [name for name in row if not _is_name(name)]:
                del row[name]
                gathered.skip(shown(name), f"has a name that cannot be kept: 1 to {MAX_NAME_CHARS} characters, no NUL")
            names.update(dict.fromkeys(row))
        if len(names) > MAX_SEEN:
            raise fault(f"{place(first + len(batch), line or None)}: has more than {MAX_SEEN:,} columns by now")
        batch.append((line, chars, row))
        size += chars
        if len(batch) >= BATCH_ROWS or len(batch) * len(names) >= BATCH_CELLS or size > BATCH_CHARS:
            flush()
            size = 0
    if batch:
        flush()


def _cells(name: str, batch: Sequence[Row], first: int) -> Any:
    values = [row.get(name) for _, _, row in batch]
    try:
        return kinds.typed(values)
    except UnicodeEncodeError:
        at = next(at for at, value in enumerate(values) if _has_half(value))
        raise fault(
            f"{place(first + at, batch[at][0] or None)}, column '{shown(name)}': holds half of a surrogate pair, which "
            "is no character; take it out, or write both halves"
        ) from None
    except RecursionError:
        raise fault(f"column '{shown(name)}' is nested too deeply") from None


def _has_half(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _is_name(name: str) -> bool:
    return bool(name.strip()) and len(name) <= MAX_NAME_CHARS and not re.search("[\x00\ud800-\udfff]", name)
