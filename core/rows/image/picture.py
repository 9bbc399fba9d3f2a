"""A picture of a stored table, by where it lies: rows hold these, and their bytes are read when they are needed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

FACTS = ("path", "digest", "width", "height", "format")  # of a picture in a stored table, beside its bytes


@dataclass(frozen=True, slots=True)
class Picture:
    """The picture of one row; pictures of one `digest` look the same, whatever their format and name."""

    digest: str
    name: str  # its path in the data set
    width: int
    height: int
    file: Path  # the stored table
    column: str
    row: int  # in the table, from 0


def picture_type() -> pa.DataType:
    """The type of a stored column of pictures: what the hub's `Image` has, and what was found when they were read."""
    import pyarrow as pa

    facts = {"path": pa.string(), "digest": pa.binary(16), "width": pa.int32(), "height": pa.int32()}
    return pa.struct({"bytes": pa.binary(), **facts, "format": pa.string()})


def pictures_of(array: pa.ChunkedArray, file: Path, column: str) -> list[Picture | None]:
    """Of the FACTS of each row; None where it has no picture."""
    found: list[Picture | None] = []
    for row, cell in enumerate(array.to_pylist()):
        if cell is None:
            found.append(None)
            continue
        size = cell["width"], cell["height"]
        found.append(Picture(cell["digest"].hex(), cell["path"] or "", *size, file=file, column=column, row=row))
    return found


def read_bytes(pictures: Sequence[Picture]) -> Iterator[tuple[int, bytes]]:
    """(place in `pictures`, the bytes as they were given) of each, in the order in which they lie; a few at a time."""
    import pyarrow.parquet as pq

    def where(place: int) -> tuple[str, str, int]:
        picture = pictures[place]
        return str(picture.file), picture.column, picture.row

    order = sorted(range(len(pictures)), key=where)
    for (path, column, _), places in groupby(order, key=lambda place: (*where(place)[:2], 0)):
        with pq.ParquetFile(path) as file:
            sizes = [file.metadata.row_group(at).num_rows for at in range(file.metadata.num_row_groups)]
            starts = [0, *accumulate(sizes)]
            for group, inside in groupby(places, key=lambda place: bisect_right(starts, pictures[place].row) - 1):
                cells = file.read_row_group(group, columns=[f"{column}.bytes"])[column]
                for place in inside:
                    yield place, cells[pictures[place].row - starts[group]]["bytes"].as_py()
