"""Data sets: an upload is read once, checked against the limits, and kept as Parquet with string columns."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, cast, select
from sqlalchemy.orm import Session

from core.ledger import jobs
from core.ledger.settings import Settings
from core.ledger.storage import Storage
from core.ledger.tables import Dataset, Job, new_id
from core.spec.problems import SpecError

if TYPE_CHECKING:
    import pyarrow as pa  # where it runs, those who need it load it: 40 MB that an idle process does without

FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
Row = dict[str, str | None]

CHUNK_ROWS = 10_000
BATCH_ROWS = 128  # of Parquet, looked at at a time
BATCH_BYTES = 64 * 2**20  # of text in them, looked up at a time
UTF8_BYTES = 4  # of a character, at most
MAX_NAME_CHARS = 200
MAX_LINE_CHARS = 8 * 2**20  # of JSONL, and of a row of CSV: Python may take 25 times as much for what is in it
# PostgreSQL stores no NUL, UTF-8 no lone surrogate; both would surface only when the job writes its report.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
NESTED = "is nested or binary; give plain text, numbers or arrays of strings or of whole numbers, or leave it out"


class InUseError(Exception):
    """A job that has not ended reads the data set: `job_id`, one of those."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} uses it")
        self.job_id = job_id


def ingest(
    upload: Path,
    name: str,
    storage: Storage,
    settings: Settings,
    tenant_id: str,
    check_size: Callable[[int], None] = lambda size_bytes: None,
) -> Dataset:
    """Read an uploaded file into a stored Parquet table; the caller adds the returned row to its session.

    `check_size` may refuse the table before it is stored, by raising.
    The format follows from the ending of `name`. Raises SpecError('/file') that says what is wrong and where.
    """
    file_format = format_of(name)
    shown = "".join(c for c in Path(name).name if c.isprintable())[:MAX_NAME_CHARS]
    return keep([upload], file_format, shown, storage, settings, tenant_id, check_size)


def format_of(name: str) -> str:
    """What the ending of a file's name says; raises SpecError('/file')."""
    found = FORMATS.get(Path(name).suffix.lower())
    if found is None:
        raise SpecError("/file", f"'{name[:MAX_NAME_CHARS]}': the name must end in one of {', '.join(FORMATS)}")
    return found


def keep(
    files: Sequence[Path],
    file_format: str,
    name: str,
    storage: Storage,
    settings: Settings,
    tenant_id: str,
    check_size: Callable[[int], None],
) -> Dataset:
    """Read files of one format, one after the other, into one stored table; as `ingest` does."""
    import pyarrow.parquet as pq

    if not any(file.stat().st_size for file in files):
        raise SpecError("/file", f"'{name}' is empty")
    readers: dict[str, Callable[[Path], Iterator[tuple[int, dict[str, Any]]]]] = {
        "csv": _read_csv,
        "jsonl": _read_jsonl,
        "parquet": partial(_read_parquet, settings=settings),
    }
    table = _collect(chain.from_iterable(map(readers[file_format], files)), settings)
    if not table.num_rows:
        raise SpecError("/file", f"'{name}' has no rows")
    handle, temporary = tempfile.mkstemp(suffix=".parquet")
    os.close(handle)
    parquet = Path(temporary)
    try:
        pq.write_table(table, parquet, compression="zstd")
        check_size(parquet.stat().st_size)
        sha256, size = storage.put(parquet)
    finally:
        parquet.unlink(missing_ok=True)
    return Dataset(
        id=new_id("ds"),
        tenant_id=tenant_id,
        name=name,
        format=file_format,
        upload_sha256=_sha256(files),
        sha256=sha256,
        size_bytes=size,
        rows=table.num_rows,
        columns=table.column_names,
    )


def find(session: Session, tenant_id: str, dataset_id: str) -> Dataset | None:
    """The tenant's data set, or None."""
    return session.scalar(select(Dataset).where(Dataset.tenant_id == tenant_id, Dataset.id == dataset_id))


def named(session: Session, tenant_id: str, name: str) -> Dataset | None:
    """The tenant's newest data set of that name, or None."""
    query = select(Dataset).where(Dataset.tenant_id == tenant_id, Dataset.name == name)
    return session.scalar(query.order_by(Dataset.id.desc()).limit(1))


def page(session: Session, tenant_id: str, limit: int, before: str | None = None) -> Sequence[Dataset]:
    """Newest first, `limit` at most, those before the id `before`."""
    query = select(Dataset).where(Dataset.tenant_id == tenant_id)
    if before is not None:
        query = query.where(Dataset.id < before)
    return session.scalars(query.order_by(Dataset.id.desc()).limit(limit)).all()


def remove(session: Session, tenant_id: str, dataset_id: str) -> bool:
    """Forget a data set; its file is swept later. False if the tenant has none such; raises InUseError.

    The tenant is held meanwhile, as it is while a job is accepted: none can be accepted that would miss its data.
    """
    jobs.lock_tenant(session, tenant_id)
    dataset = find(session, tenant_id, dataset_id)
    if dataset is None:
        return False
    unfinished = select(Job.id).where(Job.tenant_id == tenant_id, Job.status.not_in(jobs.TERMINAL))
    user = session.scalar(unfinished.where(cast(Job.spec, Text).contains(dataset_id)).limit(1))
    if user is not None:
        raise InUseError(user)
    session.delete(dataset)
    return True


def read_table(dataset: Dataset, storage: Storage, columns: Sequence[str] | None = None) -> dict[str, list[str | None]]:
    """Columns of a stored data set (all, or those of `columns` that exist)."""
    import pyarrow.parquet as pq

    names = dataset.columns if columns is None else [c for c in dict.fromkeys(columns) if c in dataset.columns]
    with storage.open(dataset.sha256) as data:
        # `pq.read_table` has columns of its own, `__filename` and the like, that ours may be named, too.
        table: dict[str, list[str | None]] = pq.ParquetFile(data).read(columns=names).to_pydict()
    return table


def preview(dataset: Dataset, storage: Storage, rows: int) -> list[Row]:
    """The first rows."""
    import pyarrow.parquet as pq

    with storage.open(dataset.sha256) as data:
        batch = next(pq.ParquetFile(data).iter_batches(batch_size=rows), None)
    return batch.to_pylist() if batch is not None else []


def _collect(parsed: Iterable[tuple[int, dict[str, Any]]], settings: Settings) -> pa.Table:
    """All rows as one table of strings; a column that a row lacks is null there."""
    import pyarrow as pa

    columns: dict[str, None] = {}
    tables: list[pa.Table] = []
    rows: list[Row] = []
    characters = 0

    def flush() -> None:  # Arrow holds a cell in a tenth of the memory that Python objects take
        tables.append(pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in columns])))
        rows.clear()

    for count, (line, raw) in enumerate(parsed, 1):
        for name in raw.keys() - columns.keys():
            _check_name(name)
        row = {key: _cell(value, line, key, settings) for key, value in raw.items()}
        columns.update(dict.fromkeys(row))
        if len(columns) > settings.max_columns:
            raise SpecError("/file", f"has more than {settings.max_columns} columns")
        rows.append(row)
        if count > settings.max_rows:
            raise SpecError("/file", f"has more than {settings.max_rows:,} rows")
        characters += sum(len(cell) for cell in row.values() if cell is not None)
        if characters > settings.max_upload_bytes:
            raise SpecError("/file", f"unpacks to more than {settings.max_upload_bytes:,} characters of text")
        if len(rows) == CHUNK_ROWS:
            flush()
    flush()
    return pa.concat_tables(tables, promote_options="default")


def _sha256(files: Sequence[Path]) -> str:
    """Of the files, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as data:
            hashlib.file_digest(data, lambda: digest)
    return digest.hexdigest()


def _check_name(column: str) -> None:
    if not column.strip() or len(column) > MAX_NAME_CHARS or UNSTORABLE.search(column):
        raise SpecError(
            "/file",
            f"column name {column[:50]!r}: a name has 1 to {MAX_NAME_CHARS} characters, "
            "no NUL and no half of a surrogate pair",
        )


def _cell(value: Any, line: int, column: str, settings: Settings) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, list) and value and all(type(item) is int for item in value):  # labels that have numbers
        value = list(map(str, value))
    array = isinstance(value, list) and all(isinstance(item, str) for item in value)  # words, tags, labels
    if isinstance(value, list | dict | bytes) and not array:
        raise SpecError(
            "/file",
            f"row {line}, column '{column[:100]}': {NESTED}",
        )
    text = json.dumps(value, ensure_ascii=False) if array or isinstance(value, bool) else str(value)
    if UNSTORABLE.search(text):
        raise SpecError(
            "/file",
            f"row {line}, column '{column[:100]}': holds a NUL or half of a surrogate pair; save it as UTF-8 text",
        )
    if len(text) > settings.max_cell_chars:
        raise SpecError(
            "/file",
            f"row {line}, column '{column[:100]}': a cell of more than {settings.max_cell_chars:,} characters; "
            "shorten it (models read at most a few thousand)",
        )
    return text


@contextmanager
def _utf8(path: Path) -> Iterator[io.TextIOWrapper]:
    with path.open("r", encoding="utf-8-sig", newline="") as text:
        try:
            yield text
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise SpecError("/file", f"is not UTF-8 (it holds the byte 0x{byte:02x}); save it as UTF-8") from error


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(2**31 - 1)  # our own limit, in _cell, has the better message
    taken = 0  # characters of the present row, which may have several lines

    def lines() -> Iterator[str]:
        nonlocal taken
        while line := text.readline(MAX_LINE_CHARS + 1 - taken):
            taken += len(line)
            if taken > MAX_LINE_CHARS:
                detail = f"line {reader.line_num + 1}: a row of more than {MAX_LINE_CHARS:,} characters"
                raise SpecError("/file", f"{detail}; is a quote not closed?")
            yield line

    with _utf8(path) as text:
        reader = csv.reader(lines(), strict=True)
        try:
            header = next(reader, [])
            if header and not header[0].strip() and all(name.strip() for name in header[1:]):
                detail = (
                    "its first column has no name, as an index that pandas wrote: give it one, or to_csv(index=False)"
                )
                raise SpecError("/file", detail)
            if len(set(header)) != len(header) or not all(name.strip() for name in header):
                raise SpecError("/file", "its first line must name the columns, each once, none empty")
            taken = 0
            for row in reader:
                taken = 0
                if row and len(row) != len(header):
                    raise SpecError(
                        "/file",
                        f"line {reader.line_num}: {len(row)} cells, but the header names {len(header)} columns",
                    )
                if row:
                    yield reader.line_num, dict(zip(header, row, strict=True))
        except csv.Error as error:
            raise SpecError("/file", f"line {reader.line_num}: is not CSV: {error}") from error


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with _utf8(path) as text:
        for number, line in enumerate(iter(lambda: text.readline(MAX_LINE_CHARS + 1), ""), 1):
            if len(line) > MAX_LINE_CHARS:
                raise SpecError("/file", f"line {number}: has more than {MAX_LINE_CHARS:,} characters")
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise SpecError("/file", f"line {number}: is not JSON: {str(error)[:200]}") from error
            if not isinstance(row, dict):
                raise SpecError("/file", f"line {number}: is not a JSON object")
            yield number, row


def _read_parquet(path: Path, settings: Settings) -> Iterator[tuple[int, dict[str, Any]]]:
    """A few bytes of Parquet can expand without bound, so that text is read as indices into its dictionary first.

    Values are looked up where no cell of the batch can be too long, a row at a time where they are many.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            names, metadata = file.schema_arrow.names, file.metadata
            if len(set(names)) != len(names):
                raise SpecError("/file", "names a column twice")
            if len(names) > settings.max_columns:
                raise SpecError("/file", f"has more than {settings.max_columns} columns")
            for name, kind in zip(names, file.schema_arrow.types, strict=True):
                if not _is_plain(kind):
                    raise SpecError("/file", f"column '{name[:100]}': {NESTED}")
            leaves = [file.schema.column(i) for i in range(metadata.num_columns)]
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            chunks = [group.column(i) for i in range(group.num_columns)]
            # An item takes two quotes, a comma and a space at least.
            most_items = group.num_rows + min(group.num_rows * settings.max_cell_chars, settings.max_upload_bytes) // 4
            if (
                sum(chunk.total_uncompressed_size for chunk in chunks) > 2 * settings.max_upload_bytes
                or max((chunk.num_values for chunk in chunks), default=0) > most_items
            ):
                raise SpecError("/file", f"unpacks to more than {settings.max_upload_bytes:,} characters of text")
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                sizes = [_text_bytes(column) for column in batch.columns]
                if max(sizes, default=0) > UTF8_BYTES * settings.max_cell_chars * len(batch):
                    where = f"rows {number + 1} to {number + len(batch)}"
                    raise SpecError("/file", f"{where}: a cell of more than {settings.max_cell_chars:,} characters")
                step = len(batch) if sum(sizes) <= BATCH_BYTES else 1
                exact = pa.record_batch([_in_words(column) for column in batch.columns], names=names)
                for start in range(0, len(batch), step):
                    for row in exact.slice(start, step).to_pylist():
                        number += 1
                        yield number, row
    except UnicodeDecodeError as error:
        raise SpecError("/file", f"row {number + 1} or later: text that is not UTF-8") from error
    except (pa.ArrowException, OSError, OverflowError) as error:
        raise SpecError("/file", f"is not readable as Parquet: {str(error)[:200]}") from error


def _is_plain(kind: pa.DataType) -> bool:
    """Whether cells of that type are text, numbers, moments or arrays of strings or of whole numbers."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        item = kind.value_type.value_type if types.is_dictionary(kind.value_type) else kind.value_type
        return bool(
            types.is_string(item) or types.is_large_string(item) or types.is_null(item) or types.is_integer(item)
        )
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return not (types.is_nested(kind) or binary)


def _text_bytes(column: pa.Array) -> int:
    """What the texts of a column, or of its lists, would take: each item 4 bytes at least."""
    import pyarrow.compute as pc
    from pyarrow import types

    items = column.flatten() if types.is_nested(column.type) else column
    if not types.is_dictionary(items.type):
        return 4 * len(items)
    lengths = pc.binary_length(items.dictionary).take(items.indices)
    return 4 * len(items) + int(pc.sum(lengths.cast("int64")).as_py() or 0)


def _in_words(column: pa.Array) -> pa.Array:
    """Moments of whole nanoseconds as text, since Python has none."""
    from pyarrow import types

    kind = column.type
    moment = types.is_timestamp(kind) or types.is_duration(kind) or types.is_time(kind)
    return column.cast("string") if moment and kind.unit == "ns" else column
