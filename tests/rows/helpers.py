"""Reading what a test has made up."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.rows.files.read import Asked, Limits, read
from core.rows.files.understood import Understood
from core.rows.table import preview, read_columns
from core.spec.errors import SpecError

LIMITS = Limits(max_bytes=256 * 2**20, max_rows=1_000_000, max_columns=256, max_cell_chars=100_000)


class Read:
    """What was understood, and the table as columns of Python values."""

    def __init__(self, understood: Understood, parquet: Path) -> None:
        self.understood = understood
        self.table = read_columns(parquet, None)
        self.columns = {name: list(column.values) for name, column in self.table.items()}
        self.rows = [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]
        self.preview = preview(parquet, 3)
        self.how, *notes = understood.notes
        self.notes = " ".join(notes)
        self.skipped = {one.column: one.why for one in understood.skipped}
        self.types = {one.name: one.type for one in understood.columns}
        self.values = {one.name: one.values for one in understood.columns}
        self.empty = {one.name: one.empty for one in understood.columns}


def take(
    folder: Path,
    data: str | bytes | Sequence[str | bytes],
    name: str = "data.csv",
    *,
    limits: Limits = LIMITS,
    class_names: Mapping[str, Sequence[str]] | None = None,
    **asked: Any,
) -> Read:
    """Read one file, or several, and see that nothing but the table is left in the folder."""
    files = []
    for number, one in enumerate([data] if isinstance(data, str | bytes) else data):
        files.append(folder / f"upload-{number}")
        files[-1].write_bytes(one.encode() if isinstance(one, str) else one)
    target = folder / "table.parquet"
    try:
        understood = read(files, name, target, limits, Asked(**asked), class_names)
    finally:
        for file in files:
            file.unlink()
        assert {path.name for path in folder.iterdir()} <= {"table.parquet"}
    result = Read(understood, target)
    target.unlink()
    return result


def refused(folder: Path, data: str | bytes | Sequence[str | bytes], name: str = "data.csv", **given: Any) -> str:
    """The message that a file is refused with; nothing is left in the folder."""
    with pytest.raises(SpecError) as caught:
        take(folder, data, name, **given)
    assert caught.value.field == "/file"
    assert not (folder / "table.parquet").exists()
    return caught.value.message


def parquet(table: pa.Table, **options: Any) -> bytes:
    """A table as the bytes of a Parquet file."""
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def arrow(table: pa.Table, stream: bool = False) -> bytes:
    """A table as the bytes of an Arrow file, or stream."""
    out = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()
