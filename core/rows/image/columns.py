"""Columns of pictures: those of Parquet and Arrow files, and what a job reads of a stored one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from core.rows.columns import Column
from core.rows.faults import shown
from core.rows.image.decode import is_picture
from core.rows.image.gallery import Gallery
from core.rows.image.picture import Picture
from core.spec.errors import Faults, SpecError

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 16  # of pictures at a time
MEND = "upload the pictures themselves: a zip with a folder for each class, or Parquet with their bytes"


class NoBytes(Exception):
    """A column that only names pictures."""


def may_be_pictures(kind: pa.DataType) -> bool:
    """Whether a column's type is that of pictures for sure: the hub's `Image`, a struct of bytes and a path."""
    from pyarrow import types

    if not types.is_struct(kind) or {kind.field(at).name for at in range(kind.num_fields)} != {"bytes", "path"}:
        return False
    cells = kind.field("bytes").type
    return is_binary(cells) or bool(types.is_null(cells))


def is_binary(kind: pa.DataType) -> bool:
    """Whether cells are bytes, also in a dictionary."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def are_pictures(array: pa.Array) -> bool:
    """Whether cells are pictures, by type or, of plain bytes, by how the first of them begin."""
    if may_be_pictures(array.type):
        return True
    if not is_binary(array.type):
        return False
    first = next((value for cell in array if (value := cell.as_py()) is not None), None)
    return first is not None and is_picture(first)


def look_at(array: pa.Array, gallery: Gallery, number: int) -> pa.Array:
    """The cells of rows from `number` on, looked at; raises NoBytes where one names a picture, and has none."""
    parts = dict(zip([field.name for field in array.type], array.flatten(), strict=True)) if _is_struct(array) else {}
    data, paths = parts.get("bytes", array), parts.get("path")
    for at in range(len(array)):
        found = data[at].as_py()
        path = paths[at].as_py() if paths is not None else None
        if found is None and path:
            raise NoBytes(f"names pictures ('{shown(path)}' in row {number + at:,}) and has not their bytes; {MEND}")
        named = f" ('{shown(path)}')" if path else ""
        gallery.add(found, path, f"row {number + at:,}{named}")
    return gallery.taken()


def read_pictures(sets: Sequence[tuple[str, Column]], pointer: str, faults: Faults) -> list[list[tuple[Picture, ...]]]:
    """Of each data set (how a fault names it, and its column) the picture of each row, if it has one."""
    found: list[list[tuple[Picture, ...]]] = []
    for prefix, column in sets:
        cells = column.values if column.pictures else ()
        found.append([(cell,) if isinstance(cell, Picture) else () for cell in cells])
        if not column.pictures:
            faults.found.append(SpecError(pointer, prefix + _no_pictures(column)))
    return found


def _no_pictures(column: Column) -> str:
    """What a column holds instead."""
    first: Any = next((cell for cell in column.values if cell is not None and cell != ""), None)
    if isinstance(first, str) and first.strip().lower().startswith(("http://", "https://", "s3://", "gs://")):
        return f"holds addresses ('{shown(first)}') and no pictures, and nothing is fetched from there: {MEND}"
    if isinstance(first, str):
        return f"holds texts ('{shown(first)}') and no pictures; if these are names of files, {MEND}"
    return f"holds no pictures ('{shown(first)}'): name the column that does, or {MEND}"


def _is_struct(array: pa.Array) -> bool:
    from pyarrow import types

    return bool(types.is_struct(array.type))
