"""Parquet and Arrow: what a file claims to hold is weighed before anything of it is unpacked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.rows.faults import fault, listed, shown
from core.rows.files.gather import CELL_BYTES, MAX_SEEN, Cells, Gathered, unique
from core.rows.files.hub_features import of_schema
from core.rows.image import columns as pictures

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 32_768
NESTED_BYTES = 8_000_000  # of all that is nested, a cell as 8: each becomes an object of Python on its way to JSON


class Skip(Exception):
    """A column that cannot be kept, and why."""


def read_parquet(path: Path, gathered: Gathered) -> None:
    """Read a Parquet file into `gathered`."""
    import pyarrow.parquet as pq

    with _readable("Parquet"):
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            columns = _columns(schema, gathered, metadata.num_rows)
            parts = [file.schema.column(index) for index in range(metadata.num_columns)]
            texts = [leaf.path for leaf in parts if leaf.physical_type == "BYTE_ARRAY"]
            leaves, start = {}, 0
            for field in schema:  # by their order: a point in a path may be one of a name
                leaves[field.name] = range(start, start := start + _leaf_count(field.type))
        if len(set(schema.names)) != len(schema.names):
            raise fault(f"names a column twice ({listed(_twice(schema.names))}); rename one of them")
        columns = {kept: name for kept, name in columns.items() if not _is_empty(metadata, leaves[name])}
        weights = {name: _weight(metadata, leaves[name]) for name in columns.values()}
        _leave_out_heavy(columns, weights, schema, gathered)
        wanted = [name for kept, name in columns.items() if kept not in gathered.skipped]
        names = {name: kept for kept, name in columns.items()}
        if not wanted:
            return
        number, nested = 1, 0
        with pq.ParquetFile(path, read_dictionary=texts, pre_buffer=False) as file:
            rows = _batch_rows(file.iter_batches(batch_size=1, columns=wanted, use_threads=False))
            for batch in file.iter_batches(batch_size=rows, columns=wanted, use_threads=False):
                nested = _take(batch, names, number, gathered, nested)
                number += batch.num_rows


def read_arrow(path: Path, stream: bool, gathered: Gathered) -> None:
    """Read an Arrow (Feather) file, or stream, into `gathered`."""
    import pyarrow as pa

    with _readable("Arrow"), pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_stream(source) if stream else pa.ipc.open_file(source)
        columns = _columns(reader.schema, gathered, 0)
        if len(set(reader.schema.names)) != len(reader.schema.names):
            raise fault(f"names a column twice ({listed(_twice(reader.schema.names))}); rename one of them")
        names = {name: kept for kept, name in columns.items()}
        number, nested = 1, 0
        batches = reader if stream else (reader.get_batch(at) for at in range(reader.num_record_batches))
        for whole in batches:
            if number + whole.num_rows - 1 > gathered.limits.max_rows:
                raise fault(f"has more than {gathered.limits.max_rows:,} rows; upload a part of it")
            whole.validate(full=True)
            rows = _batch_rows(iter([whole]))
            for start in range(0, whole.num_rows, rows):
                batch = whole.slice(start, rows)
                nested = _take(batch, names, number, gathered, nested)
                number += batch.num_rows


@contextmanager
def _readable(kind: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError, OverflowError, UnicodeDecodeError, KeyError) as error:
        raise fault(f"is not readable as {kind}: {shown(error, 200)}") from error


def _columns(schema: pa.Schema, gathered: Gathered, rows: int) -> dict[str, str]:
    """Column as it is kept -> as the file names it; those whose type cannot be kept are left out."""
    if len(schema.names) > MAX_SEEN:
        raise fault(f"has more than {MAX_SEEN:,} columns")
    if rows > gathered.limits.max_rows:
        raise fault(f"has {rows:,} rows, more than the {gathered.limits.max_rows:,} that are read; upload a part of it")
    kept = dict(zip(unique(schema.names, gathered), schema.names, strict=True))
    for name, names in of_schema(schema).items():
        if gathered.names.setdefault(name, names) != names:
            raise fault(f"names other classes for column '{shown(name)}' than the files before; upload them apart")
    index = _index(schema)
    for name, given in kept.items():
        if given in index:
            gathered.skip(name, "is the index of pandas")
        elif why := _refused(schema.field(schema.get_field_index(given)).type) if given in schema.names else None:
            gathered.skip(name, why)
        else:
            gathered.expect(name)
    return kept


def _index(schema: pa.Schema) -> set[str]:
    """Columns that pandas added for its index, unless it has a name of its own."""
    try:
        columns = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        return {one for one in columns if isinstance(one, str) and one.startswith("__index_level_")}
    except (KeyError, ValueError, TypeError, RecursionError):
        return set()


def _refused(kind: pa.DataType) -> str | None:
    """Why a column of that type cannot be kept; None if it can, or may."""
    from pyarrow import types

    if types.is_union(kind) or types.is_run_end_encoded(kind):
        return f"has a type that is not read ({shown(kind, 50)})"
    if types.is_interval(kind) or types.is_duration(kind):
        return f"holds spans of time ({shown(kind, 50)}); write them as numbers to keep them"
    return None


def _leaf_count(kind: pa.DataType) -> int:
    """How many columns of the file a column of that type is kept in."""
    import pyarrow as pa
    from pyarrow import types

    if isinstance(kind, pa.BaseExtensionType):
        return _leaf_count(kind.storage_type)
    if types.is_dictionary(kind) or not types.is_nested(kind):
        return 1
    return sum(_leaf_count(kind.field(at).type) for at in range(kind.num_fields))


def _is_empty(metadata: Any, leaves: Sequence[int]) -> bool:
    """Whether the footer says that a column has no cells with anything in them."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for leaf in leaves:
            chunk = group.column(leaf)
            known = chunk.is_stats_set and chunk.statistics.has_null_count
            if not known or chunk.statistics.null_count < chunk.num_values:
                return False
    return True


def _weight(metadata: Any, leaves: Sequence[int]) -> int:
    """The bytes that a column counts as, by the footer: a cell or an item 8 at least."""
    weight = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for leaf in leaves:
            chunk = group.column(leaf)
            weight += max(CELL_BYTES * max(chunk.num_values, group.num_rows), chunk.total_uncompressed_size // 2)
    return weight


def _leave_out_heavy(
    columns: Mapping[str, str], weights: Mapping[str, int], schema: pa.Schema, gathered: Gathered
) -> None:
    """Leave out lists of numbers and what is nested, the largest first, until the rest is no more than may be read."""
    from pyarrow import types

    limit = gathered.limits.max_bytes
    kept = {name: weights[given] for name, given in columns.items() if name not in gathered.skipped}

    def is_text(kind: pa.DataType) -> bool:
        item = kind.value_type if _is_list(kind) or types.is_dictionary(kind) else kind
        return not (types.is_nested(item) or (_is_list(kind) and types.is_floating(item)) or types.is_binary(kind))

    for name in sorted(kept, key=lambda one: -kept[one]):
        if sum(kept.values()) <= limit:
            return
        if not is_text(schema.field(schema.get_field_index(columns[name])).type):
            gathered.skip(name, f"takes about {kept.pop(name):,} bytes, more than there is room for")
    if (total := sum(kept.values())) > limit:
        largest = max(kept, key=lambda one: kept[one])
        raise fault(
            f"takes about {total:,} bytes once unpacked, more than the {limit:,} that are read (column "
            f"'{shown(largest)}' alone {kept[largest]:,}); upload fewer rows or columns"
        )


def _batch_rows(batches: Iterator[pa.RecordBatch]) -> int:
    """How many rows to take at a time: few of pictures."""
    first = next(batches, None)
    columns = first.columns if first is not None else []
    return pictures.BATCH_ROWS if any(map(pictures.are_pictures, columns)) else BATCH_ROWS


def _take(batch: pa.RecordBatch, names: Mapping[str, str], number: int, gathered: Gathered, nested: int) -> int:
    """Take a batch; returns the bytes of what is nested so far."""
    from pyarrow import types

    cells: dict[str, Cells] = {}
    for given, array in zip(batch.schema.names, batch.columns, strict=True):
        name = names[given]
        if name in gathered.skipped or types.is_null(array.type):
            continue
        try:
            if pictures.are_pictures(array) or (name in gathered.galleries and pictures.is_binary(array.type)):
                cells[name] = "picture", pictures.look_at(array, gathered.gallery(name), number)
                continue
            nested = _weigh(array, number, gathered, nested)
            cells[name] = plain(array)
        except (Skip, pictures.NoBytes) as why:
            gathered.skip(name, str(why))
    gathered.add(cells, batch.num_rows, number)
    return nested


def _weigh(array: pa.Array, number: int, gathered: Gathered, nested: int) -> int:
    """The bytes of what is nested so far; raises Skip where that is too much, SpecError where other cells are."""
    size = unpacked(array)
    if _is_nested(array.type):
        if nested + size > NESTED_BYTES:
            raise Skip("is nested, and larger than there is room for")
        return nested + size
    if size > gathered.limits.max_bytes:
        raise fault(
            f"rows {number:,} to {number + len(array) - 1:,} take more than {gathered.limits.max_bytes:,} bytes once "
            "unpacked; upload a part of it"
        )
    return nested


def _is_nested(kind: pa.DataType) -> bool:
    """Whether cells become JSON: they are no plain values, nor lists of those."""
    from pyarrow import types

    item = kind.value_type if _is_list(kind) else kind
    return bool(types.is_nested(item)) and not types.is_dictionary(item)


def unpacked(array: pa.Array) -> int:
    """The bytes of an array once each cell and item stands for itself; shared ones count each time."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    kind, count = array.type, len(array)
    if isinstance(array, pa.ExtensionArray):
        return unpacked(array.storage)
    if types.is_dictionary(kind):
        if types.is_string(kind.value_type) or types.is_large_string(kind.value_type) or _is_bytes(kind.value_type):
            lengths = pc.binary_length(array.dictionary).cast(pa.int64()).take(array.indices)
            return max(CELL_BYTES * count, int(pc.sum(lengths).as_py() or 0))
        return max(CELL_BYTES * count, unpacked(array.dictionary) if len(array.dictionary) else 0)
    if types.is_string_view(kind) or types.is_binary_view(kind):
        return max(CELL_BYTES * count, int(pc.sum(_view_lengths(array)).as_py() or 0))
    if types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        return max(CELL_BYTES * count, int(pc.sum(pc.binary_length(array).cast(pa.int64())).as_py() or 0))
    if types.is_struct(kind):
        return CELL_BYTES * count + sum(unpacked(array.field(at)) for at in range(kind.num_fields))
    if types.is_map(kind):
        return CELL_BYTES * count + unpacked(array.keys) + unpacked(array.items)
    if _is_list(kind):
        items = int(pc.sum(pc.list_value_length(array).cast(pa.int64())).as_py() or 0)
        if items * CELL_BYTES > 2**31:  # before they are laid out
            return items * CELL_BYTES
        return CELL_BYTES * count + unpacked(array.flatten())
    return CELL_BYTES * count


def _view_lengths(array: pa.Array) -> pa.Array:
    """The lengths of texts of a view, which may share bytes: the first four of the sixteen bytes of each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    start = array.offset
    words = pa.Array.from_buffers(pa.int32(), 4 * (start + len(array)), [None, array.buffers()[1]])
    lengths = words.take(pa.array(range(4 * start, 4 * (start + len(array)), 4), pa.int64())).cast(pa.int64())
    return pc.if_else(array.is_valid(), lengths, 0)


def plain(array: pa.Array) -> Cells:
    """An array of any type as one of a kind; raises Skip where it cannot be."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return plain(array.storage)
    if types.is_dictionary(kind):
        return plain(array.dictionary_decode())
    if _is_list(kind):
        item = kind.value_type
        if not (types.is_nested(item) and not types.is_dictionary(item)):
            inner, items = plain(array.flatten()) if not types.is_null(item) else ("null", array.flatten())
            return f"list:{inner}", _relisted(array, items)
        return _nested(array)
    if types.is_nested(kind):
        return _nested(array)
    if types.is_null(kind):
        return "null", array
    if types.is_boolean(kind):
        return "bool", array
    if types.is_integer(kind):
        try:
            return "int", array.cast(pa.int64())
        except pa.ArrowInvalid:  # over 2**63
            return "text", array.cast(pa.string())
    if types.is_floating(kind) or types.is_decimal(kind):
        return "float", array.cast(pa.float64())
    if types.is_timestamp(kind) and kind.tz is not None:  # kept in UTC, whatever zone it is shown in
        return "text", pc.binary_join_element_wise(
            array.view(pa.int64()).cast(pa.timestamp(kind.unit)).cast(pa.string()), "Z", ""
        )
    if types.is_temporal(kind):
        return "text", _moments(array)
    try:
        return "text", array.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise Skip("holds bytes that are no UTF-8 text") from error
    except pa.ArrowNotImplementedError as error:
        raise Skip(f"has a type that is not read ({shown(kind, 50)})") from error


def _moments(array: pa.Array) -> pa.Array:
    import pyarrow as pa

    try:
        return array.cast(pa.string())
    except pa.ArrowException as error:
        raise Skip(f"holds times that cannot be written as text ({shown(array.type, 50)})") from error


def _relisted(array: pa.Array, items: pa.Array) -> pa.Array:
    """The lists of an array, of any layout, with other items."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(array), 0).cast(pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
    return pa.ListArray.from_arrays(offsets, items, mask=array.is_null() if array.null_count else None)


def _nested(array: pa.Array) -> Cells:
    """Cells as JSON."""
    import pyarrow as pa

    try:
        values = array.to_pylist(maps_as_pydicts="lossy")
        return "nested", pa.array(
            [None if v is None else json.dumps(v, ensure_ascii=False, default=_written) for v in values], pa.string()
        )
    except (ValueError, TypeError, OverflowError, RecursionError, KeyError, pa.ArrowException) as error:
        raise Skip("is nested, and cannot be written as JSON") from error


def _written(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _is_list(kind: pa.DataType) -> bool:
    from pyarrow import types

    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def _is_bytes(kind: pa.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _twice(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
