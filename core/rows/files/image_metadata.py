"""A table beside pictures: `file_name` says the picture of each row, the other columns what is known of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import TYPE_CHECKING
from unicodedata import normalize

from core.rows.columns import NESTED
from core.rows.faults import fault, listed, shown
from core.rows.files.archive import Packed
from core.rows.files.gather import EMPTY, Cells, Gathered
from core.spec.errors import SpecError

if TYPE_CHECKING:
    import pyarrow as pa

FILE_NAME = "file_name"
Describe = Callable[[Path, str, Gathered], None]  # reads a table: where it lies, its name, where its cells go


@dataclass(frozen=True)
class Described:
    """The table, by the name that it has in the zip."""

    name: str
    table: pa.Table

    def files(self, pictures: Set[str]) -> list[str]:
        """The picture of each row; raises SpecError that names a row without."""
        base, found = PurePosixPath(self.name).parent, []
        alike = defaultdict[str, list[str]](list)  # a Mac takes accents apart
        for name in pictures:
            alike[normalize("NFC", name)].append(name)
        for row, cell in enumerate(self.table[FILE_NAME].to_pylist(), 1):
            said = "" if cell is None else str(cell).strip().replace("\\", "/")
            path = normpath(base / said)
            same = [path] if path in pictures else alike.get(normalize("NFC", path), [])
            if not said or len(same) != 1:
                which = f"{len(same)} pictures" if same else "no picture"
                what = f"names '{shown(said)}', which is {which} in the zip" if said else f"has no '{FILE_NAME}'"
                raise fault(f"'{shown(self.name)}', row {row:,}: {what}; correct the row, or leave it out")
            found += same
        return found

    def cells(self, first: int, rows: int, besides: str) -> dict[str, Cells]:
        """Of some rows, the other columns."""
        from core.rows.files.tables import plain

        found: dict[str, Cells] = {}
        for field in self.table.schema:
            if field.name not in (FILE_NAME, besides):
                array = self.table[field.name].slice(first, rows).combine_chunks()
                found[field.name] = ("nested", array) if NESTED in (field.metadata or {}) else plain(array)
        return found


def read_table(packed: Packed, name: str, gathered: Gathered, work: Path, describe: Describe) -> Described:
    """Read the table, and say in `gathered` what was understood of it."""
    import pyarrow.parquet as pq

    inner = work / "described"
    inner.mkdir()
    copy, target = inner / PurePosixPath(name).name, inner / "table.parquet"
    try:
        copy.write_bytes(packed.content(name, gathered.limits.max_bytes))
        with Gathered(inner, gathered.limits) as cells:
            describe(copy, name, cells)
            facts = cells.write(target)
        table = pq.read_table(target)
    except SpecError as error:
        raise fault(f"'{shown(name)}' {error.message}") from error
    finally:
        for path in inner.iterdir():
            path.unlink()
        inner.rmdir()
    if FILE_NAME not in table.schema.names:
        known = listed([fact.name for fact in facts])
        raise fault(
            f"'{shown(name)}' has no column '{FILE_NAME}', which is to name the picture of each row (it has {known})"
        )
    for note in cells.notes:
        gathered.note(f"{shown(name)}: {note}")
    for column, why in cells.skipped.items():
        if why == EMPTY:
            gathered.expect(column)
        else:
            gathered.skip(column, why)
    gathered.names.update(cells.names)
    return Described(name, table)
