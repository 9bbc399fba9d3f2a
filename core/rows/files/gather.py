"""Batches of cells from any reader become one Parquet table: counted, checked, and typed once all have been seen."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.rows.columns import NAMES, NESTED, PICTURE
from core.rows.faults import fault, listed, place, shown
from core.rows.files import kinds
from core.rows.files.asked import Limits
from core.rows.files.understood import ColumnFacts
from core.rows.image.gallery import Gallery

if TYPE_CHECKING:
    import pyarrow as pa

Cells = tuple[str, "pa.Array"]  # of one kind (core.rows.files.kinds)
CELL_BYTES = 8  # that any cell, or item of a list, costs at least
MAX_SEEN = 4096  # columns
MAX_NAME_CHARS = 200
MAX_VALUES, MAX_VALUE_CHARS = 50, 100  # of a column whose values are counted
MAX_SKIPPED, MAX_NOTES = 100, 30
EMPTY = "is empty"  # why a column is left out, unless another file has cells of it
# Names as those of a task: such columns are kept wherever they stand.
KNOWN = {"text", "sentence", "sentence1", "sentence2", "premise", "hypothesis", "question", "answer", "review"}
KNOWN |= {"label", "labels", "target", "class", "category", "y", "score", "rating"}
KNOWN |= {"tokens", "words", "tags", "ner_tags", "image"}
GROUP_BYTES, GROUP_ROWS = 8 * 2**20, 1024  # of pictures that lie together in the table: as many are read at once


class Gathered:
    """The cells of a data set on their way, in a file of the folder; `notes` are whole sentences about them."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.limits = limits
        self.rows = 0
        self.notes: list[str] = []
        self.skipped: dict[str, str] = {}
        self.names: dict[str, Sequence[str]] = {}  # of classes
        self.galleries: dict[str, Gallery] = {}  # of columns of pictures
        self._kinds: dict[str, set[str]] = {}  # in the order in which columns came
        self._empty: Counter[str] = Counter()
        self._cut: dict[str, tuple[int, int]] = {}  # column -> how many cells were cut, the first of their rows
        self._cost = 0
        self._path = folder / "gathered.arrows"
        self._spool = self._path.open("wb")

    def __enter__(self) -> Gathered:
        return self

    def __exit__(self, *error: object) -> None:
        self._spool.close()

    @property
    def columns(self) -> list[str]:
        """Those that came so far, and were not left out."""
        return [name for name in self._kinds if name not in self.skipped]

    def note(self, sentence: str) -> None:
        """Say something of the file, once."""
        if sentence not in self.notes and len(self.notes) < MAX_NOTES:
            self.notes.append(sentence)

    def skip(self, column: str, why: str) -> None:
        """Leave a column out."""
        if len(self.skipped) < MAX_SEEN:
            self.skipped.setdefault(column, why)

    def expect(self, column: str) -> None:
        """Know of a column of which batches may hold nothing."""
        if column not in self._kinds:
            self._kinds[column] = set()
            self._empty[column] = self.rows

    def add(
        self, batch: Mapping[str, Cells], rows: int, first: int, line_of: Callable[[int], int | None] = lambda row: None
    ) -> None:
        """Take cells of further rows; `first` is the number of the first one in its file, `line_of` the line of one.

        Raises SpecError where they are too many or too large, or hold what cannot be kept.
        """
        import pyarrow as pa

        self.rows += rows
        if self.rows > self.limits.max_rows:
            raise fault(f"has more than {self.limits.max_rows:,} rows; upload a part of it")
        self._cost += CELL_BYTES * rows + sum(cost(array) for _, array in batch.values())
        if self._cost > self.limits.max_bytes:
            raise fault(
                f"takes more than {self.limits.max_bytes:,} bytes once unpacked (a cell counts as {CELL_BYTES} at "
                "least); upload a part of it, or fewer columns"
            )
        arrays, fields = [], []
        for name, (kind, array) in batch.items():
            if name in self.skipped:
                continue
            if name not in self._kinds:
                self._empty[name] = self.rows - rows
            self._kinds.setdefault(name, set()).add(kind)
            array = self._checked(name, kind, array, first, line_of)
            self._empty[name] += array.null_count
            if kind == "text":
                self._empty[name] += _count_equal(array, "")
            arrays.append(array)
            fields.append(pa.field(name, array.type, metadata={b"kind": kind.encode()}))
        for name in self._kinds.keys() - batch.keys():
            self._empty[name] += rows
        if len(self._kinds) > MAX_SEEN:
            raise fault(f"has more than {MAX_SEEN:,} columns")
        if not fields:  # a record batch without columns has no rows
            fields, arrays = [pa.field("", pa.null(), metadata={b"kind": b"null"})], [pa.nulls(rows)]
        schema = pa.schema(fields)
        with pa.ipc.new_stream(self._spool, schema) as stream:
            stream.write_batch(pa.record_batch(arrays, schema=schema))

    def gallery(self, column: str) -> Gallery:
        """The pictures of a column."""
        return self.galleries.setdefault(column, Gallery())

    def check_pictures(self) -> None:
        """Raise SpecError that names those that cannot be read, by their rows in the file that was read last."""
        for name, gallery in self.galleries.items():
            if name not in self.skipped:
                gallery.check()

    def is_empty(self, column: str) -> bool:
        """Whether no row has anything there."""
        return self._empty[column] == self.rows

    def counts_rows(self, column: str) -> bool:
        """Whether the column holds another whole number in each row, as an index does."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found = []
        for batch in self._batches():
            if column not in batch.schema.names:
                return False
            array = batch.column(column)
            if not pa.types.is_integer(array.type):
                try:
                    array = array.cast(pa.int64())
                except pa.ArrowInvalid:
                    return False
            found.append(array)
        return bool(pc.count_distinct(pa.chunked_array(found, pa.int64()), mode="all").as_py() == self.rows)

    def write(self, target: Path) -> list[ColumnFacts]:
        """Make the table; raises SpecError where nothing is left, or a number is the place of no class."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._spool.close()
        if not self.rows:
            raise fault("has no rows (a first line that names the columns is none)")
        for name, gallery in self.galleries.items():
            if name not in self.skipped:
                self.notes += gallery.notes(name)
        final = self._final()
        for name, (count, row) in self._cut.items():
            self.note(
                f"Column '{shown(name)}': {count:,} {'cell has' if count == 1 else 'cells have'} more than "
                f"{self.limits.max_cell_chars:,} characters, and {'was' if count == 1 else 'were'} cut there "
                f"(first in row {row:,})."
            )
        schema = pa.schema([_field(name, kind, self.names.get(name)) for name, kind in final.items()])
        values: dict[str, Counter[Any] | None] = {name: Counter() for name in final}
        empty: Counter[str] = Counter()
        done = 0
        pictures = "picture" in final.values()
        options = {"use_dictionary": not pictures, "write_statistics": not pictures}
        with pq.ParquetWriter(target, schema, compression="zstd", **options) as writer:
            for batch in _grouped(self._batches()) if pictures else self._batches():
                arrays = []
                for name, kind in final.items():
                    array = self._part(batch, name, kind)
                    self._check_names(name, array, done)
                    empty[name] += array.null_count + (_count_equal(array, "") if kind == "text" else 0)
                    values[name] = _counted(values[name], kind, array)
                    arrays.append(array)
                done += batch.num_rows
                if pictures:  # a group of rows each: to read one picture, its group is read
                    writer.write_table(pa.table(arrays, schema=schema))
                else:
                    writer.write_batch(pa.record_batch(arrays, schema=schema))
        return [self._facts(name, kind, empty[name], values[name]) for name, kind in final.items()]

    def _final(self) -> dict[str, str]:
        """The columns that are kept, and their kinds."""
        final = {name: self._final_kind(name) for name in self.columns}
        for name, kind in list(final.items()):
            if kind == "null":
                self.skip(name, EMPTY)
                del final[name]
            elif kind == "list:null":
                final[name] = "list:text"
        if not (kept := self._chosen(final)):
            raise fault("has no column that can be read")
        return {name: final[name] for name in kept}

    def _part(self, batch: pa.RecordBatch, name: str, kind: str) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        if name not in batch.schema.names:
            return pa.nulls(batch.num_rows, kinds.arrow_type(kind))
        given = batch.schema.field(name).metadata[b"kind"].decode()
        array = batch.column(name)
        if kind == "int" and given != "int":  # places of classes that were written as texts or as numbers with a point
            return array.cast(pa.float64()).cast(pa.int64())
        array = kinds.converted(array, given, kind)
        return pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array) if kind == "float" else array

    def _final_kind(self, name: str) -> str:
        """What the column is once all is known; says so where it had several kinds."""
        given = self._kinds[name]
        if "picture" in given and given - {"picture", "null"}:
            raise fault(
                f"column '{shown(name)}' holds pictures in some parts, and other cells elsewhere: upload them apart"
            )
        kind = kinds.united(given)
        names = self.names.get(name)
        if names is not None and kind in ("text", "float") and self._are_places(name):
            kind = "int"
        if kind not in ("int", "list:int"):
            self.names.pop(name, None)
        parts = {part for one in given for part in one.removeprefix("mixed:").split(",")} - {"null", "list:null"}
        if kind in ("text", "list:text") and parts - {kind}:
            said = ", ".join(sorted(kinds.words(part) for part in parts))
            self.note(f"Column '{shown(name)}' holds cells of several kinds ({said}); they are kept as texts.")
        return kind

    def _are_places(self, name: str) -> bool:
        """Whether all cells are whole numbers, however they are written."""
        import pyarrow as pa

        try:
            for batch in self._batches():
                if name in batch.schema.names:
                    array = batch.column(name)
                    if not pa.types.is_string(array.type):
                        array = array.cast(pa.float64())
                    array.cast(pa.float64()).cast(pa.int64())
        except pa.ArrowException:
            return False
        return True

    def _check_names(self, name: str, array: pa.Array, done: int) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        if (names := self.names.get(name)) is None:
            return
        items = pc.list_flatten(array) if pa.types.is_list(array.type) else array
        wrong = pc.or_(pc.less(items, -1), pc.greater_equal(items, len(names)))
        if (at := wrong.index(True).as_py()) < 0:
            return
        row = pc.list_parent_indices(array)[at].as_py() if pa.types.is_list(array.type) else at
        raise fault(
            f"row {done + row + 1:,}, column '{shown(name)}': {items[at].as_py()} is the place of no class: the file "
            f"names {len(names):,} classes, 0 to {len(names) - 1:,} (and -1 for none)"
        )

    def _chosen(self, final: Mapping[str, str]) -> list[str]:
        """At most `max_columns`, texts and what looks like labels before hundreds of numbers."""
        most = self.limits.max_columns
        if len(final) <= most:
            return list(final)
        numeric = self._numeric([name for name, kind in final.items() if kind == "text"])

        def rank(name: str) -> int:
            kind = "float" if name in numeric else final[name]
            if name.strip().lower() in KNOWN or name in self.names:
                return 0
            return 1 if kind in ("text", "list:text") else 2 if kind in ("bool", "int", "nested") else 3

        kept = set(sorted(final, key=rank)[:most])
        left = [name for name in final if name not in kept]
        for name in left:
            self.skip(name, f"more than {most:,} columns: texts, and what looks like labels, are kept first")
        self.note(
            f"It has {len(final):,} columns, of which {most:,} are kept: {len(left):,} others ({listed(left)}) are "
            "left out; upload it with fewer columns if one of them is needed."
        )
        return [name for name in final if name in kept]

    def _numeric(self, texts: Sequence[str]) -> set[str]:
        """Columns of texts whose first cells are all numbers."""
        import pyarrow as pa
        import pyarrow.compute as pc

        batch = next(self._batches())
        found = set()
        for name in texts:
            if name in batch.schema.names and pa.types.is_string(batch.column(name).type):
                some = pc.utf8_trim_whitespace(batch.column(name)[:1000])
                try:
                    some.filter(pc.not_equal(some, "")).cast(pa.float64())
                    found.add(name)
                except pa.ArrowInvalid:
                    pass
        return found

    def _batches(self) -> Iterator[pa.RecordBatch]:
        """All that was added, in turn: each is a stream of its own, since its columns may be others."""
        import pyarrow as pa

        if not self._spool.closed:
            self._spool.flush()
        with ExitStack() as stack:
            spool = stack.enter_context(pa.memory_map(str(self._path)))
            while spool.tell() < spool.size():
                yield from pa.ipc.open_stream(spool)

    def _checked(
        self, name: str, kind: str, array: pa.Array, first: int, line_of: Callable[[int], int | None]
    ) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        lists = pa.types.is_list(array.type)
        texts = array.flatten() if lists else array
        if not pa.types.is_string(texts.type):
            return array

        def row_of(at: int) -> int:
            return int(pc.list_parent_indices(array)[at].as_py()) if lists else at

        if (at := pc.match_substring(texts, "\0").index(True).as_py()) >= 0:
            row = row_of(at)
            raise fault(
                f"{place(first + row, line_of(row))}, column '{shown(name)}': holds a NUL character, which no text "
                "has; take it out, or save the file as UTF-8 text"
            )
        most = self.limits.max_cell_chars
        if (pc.max(pc.binary_length(texts)).as_py() or 0) <= most:
            return array
        long = pc.greater(pc.utf8_length(texts), most)
        if not (count := pc.sum(long).as_py()):
            return array
        if kind != "text" and not lists:
            self.skip(name, f"row {first + row_of(long.index(True).as_py()):,} holds more than {most:,} characters")
            return array
        before, row = self._cut.get(name, (0, first + row_of(long.index(True).as_py())))
        self._cut[name] = before + count, row
        texts = pc.utf8_slice_codeunits(texts, 0, most)
        if not lists:
            return texts
        return (
            pa.ListArray.from_arrays(array.offsets, texts, mask=array.is_null())
            if array.null_count
            else (pa.ListArray.from_arrays(array.offsets, texts))
        )

    def _facts(self, name: str, kind: str, empty: int, values: Counter[Any] | None) -> ColumnFacts:
        names = self.names.get(name)

        def said(value: Any) -> str:
            if names is not None and 0 <= value < len(names):
                return shown(names[value], MAX_VALUE_CHARS)
            return shown(kinds.spelled(value), MAX_VALUE_CHARS)

        counts: Counter[str] = Counter()
        for value, count in (values or Counter()).most_common():
            if value is not None and value != "":
                counts[said(value)] += count
        type_words = kinds.words(kind) if names is None else "classes" if kind == "int" else "list of classes"
        return ColumnFacts(name, type_words, empty, dict(counts.most_common()))


def _grouped(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches of the same columns put together until they are large enough to lie together."""
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        same = waiting and waiting[0].schema.equals(batch.schema, check_metadata=True)
        rows = sum(one.num_rows for one in waiting) + batch.num_rows
        if waiting and not (same and rows <= GROUP_ROWS and sum(one.nbytes for one in waiting) < GROUP_BYTES):
            yield pa.Table.from_batches(waiting).combine_chunks().to_batches()[0]
            waiting = []
        waiting.append(batch)
    if waiting:
        yield pa.Table.from_batches(waiting).combine_chunks().to_batches()[0]


def cost(array: pa.Array) -> int:
    """The bytes that an array of a kind's type counts as."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(array.type):
        return CELL_BYTES * len(array) + cost(array.flatten())
    if pa.types.is_struct(array.type):  # of pictures
        return cost(array.field("bytes"))
    if pa.types.is_string(array.type) or pa.types.is_binary(array.type):
        return max(CELL_BYTES * len(array), int(pc.sum(pc.binary_length(array)).as_py() or 0))
    return CELL_BYTES * len(array)


def unique(names: Sequence[str], gathered: Gathered) -> list[str]:
    """Names of columns as they can be kept: none empty, too long, or twice; what had to be changed is noted."""
    found: dict[str, None] = {}
    changed: list[str] = []
    for number, given in enumerate(names, 1):
        name = given.strip()[:MAX_NAME_CHARS] or f"column{number}"
        plain, count = name, 1
        while name in found:
            count += 1
            name = f"{plain[: MAX_NAME_CHARS - 8]}_{count}"
        if name != given.strip() and given.strip():
            changed.append(name)
        found[name] = None
    if changed:
        gathered.note(f"Names of columns that come twice, or are too long, were changed: {listed(changed)}.")
    return list(found)


def _field(name: str, kind: str, names: Sequence[str] | None) -> pa.Field:
    import pyarrow as pa

    metadata = {}
    if names is not None:
        metadata[NAMES] = json.dumps(list(names), ensure_ascii=False).encode()
    if kind == "nested":
        metadata[NESTED] = b"true"
    if kind == "picture":
        metadata[PICTURE] = b"true"
    return pa.field(name, kinds.arrow_type(kind), metadata=metadata or None)


def _count_equal(array: pa.Array, value: str) -> int:
    import pyarrow.compute as pc

    return int(pc.sum(pc.equal(array, value)).as_py() or 0)


def _counted(counts: Counter[Any] | None, kind: str, array: pa.Array) -> Counter[Any] | None:
    """Counts of values with those of `array`; None once there are too many, or they are too long."""
    import pyarrow.compute as pc

    if counts is None or kind in ("nested", "list:float", "picture"):
        return None
    items = array.flatten() if kind.startswith("list:") else array
    if kind in ("text", "list:text") and (pc.max(pc.binary_length(items)).as_py() or 0) > 4 * MAX_VALUE_CHARS:
        return None
    found = items.value_counts()
    if len(found) > MAX_VALUES + 2:
        return None
    for entry in found.to_pylist():
        counts[entry["values"]] += entry["counts"]
    over = len(counts) > MAX_VALUES + 2
    return None if over or any(isinstance(v, str) and len(v) > MAX_VALUE_CHARS for v in counts) else counts
