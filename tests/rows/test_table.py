"""Stored tables back: cells that stay in Arrow, and a preview as JSON has it."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.rows.columns import NAMES, NESTED
from core.rows.table import Cells, preview, read_columns


@pytest.fixture
def stored() -> io.BytesIO:
    schema = pa.schema(
        [
            pa.field("a.b", pa.string()),
            pa.field("a", pa.float64()),
            pa.field("label", pa.int64(), metadata={NAMES: b'["neg", "pos"]'}),
            pa.field("tags", pa.list_(pa.int64()), metadata={NAMES: b'["O"]'}),
            pa.field("meta", pa.string(), metadata={NESTED: b"true"}),
            pa.field("__filename", pa.bool_()),
        ]
    )
    columns = [["x", None], [1.5, float("inf")], [1, -1], [[0, 0], None], ['{"k": NaN}', None], [True, None]]
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
    out = io.BytesIO()
    pq.write_table(table, out)
    return out


def test_columns_come_with_what_they_mean(stored):
    table = read_columns(stored)
    assert list(table) == ["a.b", "a", "label", "tags", "meta", "__filename"]
    assert table["label"].names == ("neg", "pos") and table["tags"].names == ("O",)
    assert table["meta"].nested and not table["a.b"].nested
    assert list(table["tags"].values) == [[0, 0], None]


def test_only_those_named_are_read(stored):
    assert list(read_columns(stored, ["label", "none", "a", "label"])) == ["label", "a"]
    assert list(read_columns(stored, ["a"])["a"].values) == [1.5, float("inf")]
    assert read_columns(stored, []) == {}


def test_a_preview_is_json_for_people(stored):
    rows = preview(stored, 2)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert rows[0] == {
        "a.b": "x",
        "a": 1.5,
        "label": "pos",
        "tags": ["O", "O"],
        "meta": {"k": None},
        "__filename": True,
    }
    assert rows[1]["a"] is None and rows[1]["label"] == -1
    assert len(preview(stored, 1)) == 1 and preview(stored, 0) == []


def test_cells_are_a_sequence():
    values = [str(number) for number in range(10_000)]
    cells = Cells(pa.chunked_array([values[:3000], values[3000:]]))
    assert len(cells) == 10_000 and list(cells) == values and cells[-1] == "9999" and cells[3000] == "3000"
    assert cells[2990:3010] == values[2990:3010] and cells[::-2000] == values[::-2000] and "77" in cells
    with pytest.raises(IndexError):
        cells[10_000]
