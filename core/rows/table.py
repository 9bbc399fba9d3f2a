"""A stored table, back: columns as labels and texts are read from them, and its first rows for people."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, overload

from core.rows.columns import NAMES, NESTED, PICTURE, Column, Table
from core.rows.image.decode import quietly, thumbnail
from core.rows.image.picture import FACTS, pictures_of
from core.spec.job import JobSpec

if TYPE_CHECKING:
    import pyarrow as pa

STEP = 4096  # cells that are objects of Python at a time


def read_tables(spec: JobSpec, files: Mapping[str, Path]) -> dict[str, Table]:
    """Of each data set the columns that the job names, and those that it looks at where there are any."""
    named, optional = defaultdict[str, set[str]](set), spec.optional_columns()
    for dataset_id, columns in spec.columns():
        named[dataset_id].update(columns.values())
    return {i: read_columns(path, sorted(named[i] | optional.get(i, set()))) for i, path in files.items()}


class Cells(Sequence[Any]):
    """The cells of a column, which stay as Arrow has them until one is asked for: a tenth of what a list takes."""

    def __init__(self, array: pa.ChunkedArray) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    @overload
    def __getitem__(self, at: int) -> Any: ...
    @overload
    def __getitem__(self, at: slice) -> list[Any]: ...
    def __getitem__(self, at: int | slice) -> Any:
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            if step == 1:
                return self._array.slice(start, max(0, stop - start)).to_pylist()
            return [self[index] for index in range(start, stop, step)]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        return self._array[at].as_py()

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), STEP):
            yield from self._array.slice(start, STEP).to_pylist()


def read_columns(parquet: Path | BinaryIO, names: Sequence[str] | None = None) -> Table:
    """Columns of a stored table by name: all of them, or those of `names` that exist."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(parquet)
    schema = file.schema_arrow
    wanted = schema.names if names is None else [name for name in dict.fromkeys(names) if name in schema.names]
    if not wanted:
        return {}
    pictures = {name for name in wanted if PICTURE in (schema.field(name).metadata or {})}
    parts = [[name] if name not in pictures else [f"{name}.{fact}" for fact in FACTS] for name in wanted]
    table = file.read(columns=[*chain.from_iterable(parts)])  # and any whose name begins as one of them, with a point
    return {
        name: Column(pictures_of(table[name], Path(str(parquet)), name), pictures=True)
        if name in pictures
        else _column(schema.field(name), table[name])
        for name in wanted
    }


def preview(parquet: Path | BinaryIO, rows: int) -> list[dict[str, Any]]:
    """The first rows as JSON has them: names for classes, objects for what is nested, null for what is no number."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(parquet)
    batch = next(file.iter_batches(batch_size=rows), None) if rows else None
    if batch is None:
        return []
    columns = {}
    for field, array in zip(file.schema_arrow, batch.columns, strict=True):
        names = _names(field)
        nested = NESTED in (field.metadata or {})
        if PICTURE in (field.metadata or {}):
            columns[field.name] = [_seen(cell) for cell in array.to_pylist()]
        else:
            columns[field.name] = [_shown(value, names, nested) for value in array.to_pylist()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class Seen(dict[str, Any]):
    """A picture, as it is shown."""


def _seen(cell: Mapping[str, Any] | None) -> Seen | None:
    """A picture for people: a small one, and what it is."""
    if cell is None:
        return None
    with quietly():
        small = thumbnail(cell["bytes"])
    return Seen({name: cell[name] for name in ("path", "format", "width", "height")}, thumbnail=small)


def _column(field: pa.Field, array: pa.ChunkedArray) -> Column:
    return Column(Cells(array), _names(field), NESTED in (field.metadata or {}))


def _names(field: pa.Field) -> tuple[str, ...] | None:
    names = (field.metadata or {}).get(NAMES)
    return None if names is None else tuple(json.loads(names))


def _shown(value: Any, names: Sequence[str] | None, nested: bool) -> Any:
    if isinstance(value, list):
        return [_shown(item, names, False) for item in value]
    if names is not None and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if nested and value is not None:
        return json.loads(value, parse_constant=lambda constant: None)
    return value
