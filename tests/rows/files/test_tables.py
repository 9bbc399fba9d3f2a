"""Parquet and Arrow: types, names of classes, and bombs that are weighed before they are unpacked."""

from __future__ import annotations

import datetime
import decimal
import json
import tracemalloc

import pyarrow as pa
import pytest

from core.rows.files import tables
from core.rows.files.read import Limits
from tests.rows.helpers import arrow, parquet, refused, take

CLASSES = {"names": ["neg", "pos"], "_type": "ClassLabel"}


def features(table: pa.Table, **given: object) -> pa.Table:
    return table.replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": given}}).encode()})


WRITERS = [parquet, arrow, lambda table: arrow(table, stream=True)]


@pytest.mark.parametrize("write", WRITERS)
def test_types_become_plain(tmp_path, write):
    columns = {
        "i8": (pa.array([1, None], pa.int8()), [1, None]),
        "u64": (pa.array([1, 2**63], pa.uint64()), ["1", str(2**63)]),
        "f16": (pa.array([1.5, 2], pa.float16()), [1.5, 2.0]),
        "nan": (pa.array([float("nan"), 1.0]), [None, 1.0]),
        "decimal": (pa.array([decimal.Decimal("1.50"), None]), [1.5, None]),
        "bool": (pa.array([True, None]), [True, None]),
        "date": (pa.array([datetime.date(2020, 1, 2), None]), ["2020-01-02", None]),
        "zone": (pa.array([0, None], pa.timestamp("ms", "Mars/Olympus")), ["1970-01-01 00:00:00.000Z", None]),
        "dictionary": (pa.array(["x", "y"]).dictionary_encode(), ["x", "y"]),
        "bytes": (pa.array([b"caf\xc3\xa9", None]), ["café", None]),
        "large": (pa.array([["a"], None], pa.large_list(pa.large_string())), [["a"], None]),
        "fixed": (pa.array([[1, 2], None], pa.list_(pa.int32(), 2)), [[1, 2], None]),
        "struct": (pa.array([{"a": 1}, None]), ['{"a": 1}', None]),
        "map": (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), ['{"k": 1}', None]),
        "lists": (pa.array([[["a"]], [[]]]), ['[["a"]]', "[[]]"]),
    }
    result = take(tmp_path, write(pa.table({name: array for name, (array, _) in columns.items()})), "x.parquet")
    assert result.columns == {name: values for name, (_, values) in columns.items()}
    assert {name for name, column in result.table.items() if column.nested} == {"struct", "map", "lists"}


def test_views_become_plain(tmp_path):
    table = pa.table(
        {
            "text": pa.array(["a" * 50, None], pa.string_view()),
            "bytes": pa.array([b"a", None], pa.binary_view()),
            "list": pa.array([["a", "b"], None], pa.list_view(pa.string_view())),
        }
    )
    expected = {"text": ["a" * 50, None], "bytes": ["a", None], "list": [["a", "b"], None]}
    assert take(tmp_path, arrow(table), "x.arrow").columns == expected
    sliced = pa.table({"l": pa.array([["a"], None, ["b", "c"], []])})[1:]
    assert take(tmp_path, arrow(sliced), "x.arrow").columns == {"l": [None, ["b", "c"], []]}


@pytest.mark.parametrize("write", WRITERS)
def test_what_cannot_be_kept_is_left_out_and_said(tmp_path, write):
    table = pa.table(
        {
            "text": ["a", "b"],
            "picture": [b"\xff\xd8", b"a"],
            "span": pa.array([1, 2], pa.duration("s")),
            "nothing": pa.nulls(2),
        }
    )
    result = take(tmp_path, write(table), "x.parquet")
    assert list(result.columns) == ["text"] and result.skipped.keys() == {"picture", "span", "nothing"}
    assert "UTF-8" in result.skipped["picture"] and result.skipped["nothing"] == "is empty"


@pytest.mark.parametrize(
    "wrapped", [{"feature": CLASSES, "_type": "Sequence"}, {"feature": CLASSES, "_type": "List"}, [CLASSES]]
)
def test_names_of_classes_in_lists(tmp_path, wrapped):
    table = features(pa.table({"tokens": [["a", "b"], ["c"]], "tags": [[0, 1], [1]]}), tags=wrapped)
    result = take(tmp_path, parquet(table), "x.parquet")
    assert result.table["tags"].names == ("neg", "pos") and result.preview[0]["tags"] == ["neg", "pos"]
    assert result.types["tags"] == "list of classes" and result.values["tags"] == {"pos": 2, "neg": 1}


def test_names_of_classes_in_cells(tmp_path):
    table = features(pa.table({"text": ["a", "b", "c"], "label": [0, 1, -1]}), label=CLASSES)
    result = take(tmp_path, arrow(table), "x.arrow")
    assert result.columns["label"] == [0, 1, -1] and result.values["label"] == {"neg": 1, "pos": 1, "-1": 1}
    holed = take(
        tmp_path, parquet(features(pa.table({"t": ["a", "b"], "label": [1.0, None]}), label=CLASSES)), "x.parquet"
    )
    assert holed.columns["label"] == [1, None] and holed.table["label"].names == ("neg", "pos")
    wrong = features(pa.table({"text": ["a", "b"], "label": [0, 7]}), label=CLASSES)
    assert "row 2, column 'label': 7 is the place of no class" in refused(tmp_path, parquet(wrong), "x.parquet")
    far = features(pa.table({"tags": [[0]] * 40_000 + [[1, 2]]}), tags=[CLASSES])
    assert "row 40,001, column 'tags': 2" in refused(tmp_path, parquet(far), "x.parquet")


def test_files_must_agree_on_the_names_of_classes(tmp_path):
    table = pa.table({"label": [0, 1]})
    turned = {"names": ["pos", "neg"], "_type": "ClassLabel"}
    files = [parquet(features(table, label=CLASSES)), parquet(features(table, label=turned))]
    assert "file 2 of 2: names other classes for column 'label'" in refused(tmp_path, files, "x.parquet")
    same = take(tmp_path, files[:1] * 2, "x.parquet", class_names={"label": ["a", "b"]})
    assert same.values["label"] == {"neg": 2, "pos": 2}


def test_names_of_classes_from_a_card(tmp_path):
    names = {"label": ["neg", "pos"], "other": ["a"]}
    result = take(tmp_path, "text,label\na,0\nb,1\n", class_names=names)
    assert result.columns["label"] == [0, 1] and result.table["label"].names == ("neg", "pos")
    spelled = take(tmp_path, "text,label\na,neg\nb,pos\n", class_names=names)
    assert spelled.columns["label"] == ["neg", "pos"] and spelled.table["label"].names is None
    assert "3 is the place of no class" in refused(tmp_path, "text,label\na,0\nb,3\n", class_names=names)


def test_files_whose_types_differ_become_one(tmp_path):
    first, second = pa.table({"t": ["a"], "n": [1]}), pa.table({"t": ["b"], "n": [1.5], "more": ["z"]})
    result = take(tmp_path, [parquet(first), parquet(second)], "x.parquet")
    assert result.columns == {"t": ["a", "b"], "n": [1.0, 1.5], "more": [None, "z"]}
    mixed = take(tmp_path, [parquet(first), parquet(pa.table({"t": ["b"], "n": ["x"]}))], "x.parquet")
    assert mixed.columns["n"] == ["1", "x"] and "several kinds" in mixed.notes


@pytest.mark.parametrize("write", WRITERS)
def test_a_column_that_is_empty_in_one_file_is_kept_of_the_others(tmp_path, write):
    empty = pa.table({"l": pa.array([None, None], pa.string()), "n": pa.nulls(2), "x": pa.nulls(2), "t": ["a", "b"]})
    full = pa.table({"t": ["c"], "x": pa.nulls(1), "n": [1], "l": ["pos"]})
    for files in ([empty, full], [full, empty]):
        result = take(tmp_path, list(map(write, files)), "x.parquet")
        assert sorted(result.columns["l"], key=str) == [None, None, "pos"] and set(result.columns["n"]) == {None, 1}
        assert result.skipped == {"x": "is empty"} and result.empty == {"l": 2, "n": 2, "t": 0}
    assert list(take(tmp_path, [write(empty), write(full)], "x.parquet").columns) == ["l", "n", "t"]


def test_whole_numbers_that_no_float_holds_are_rounded_beside_others(tmp_path):
    whole = pa.table({"n": [2**53 + 1], "l": [[2**53 + 1]]})
    result = take(tmp_path, [parquet(whole), parquet(pa.table({"n": [0.5], "l": [[0.5]]}))], "x.parquet")
    assert result.columns == {"n": [2.0**53, 0.5], "l": [[2.0**53], [0.5]]}


def test_names_of_columns(tmp_path):
    table = pa.table({"a" * 300: ["x"], "": ["y"], " t ": ["z"], "a.b": ["v"], "__filename": ["w"]})
    assert list(take(tmp_path, parquet(table), "x.parquet").columns) == ["a" * 200, "column2", "t", "a.b", "__filename"]
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["t", "t"])
    assert "names a column twice ('t')" in refused(tmp_path, parquet(twice), "x.parquet")


def test_of_too_many_columns_texts_and_labels_are_kept(tmp_path):
    table = pa.table({**{f"f{i}": [0] for i in range(300)}, "target": [1], "comment": ["hello"]})
    result = take(tmp_path, parquet(table), "x.parquet")
    assert len(result.columns) == 256 and {"target", "comment"} <= result.columns.keys()


def test_damaged_files_are_refused(tmp_path):
    table = pa.table({"text": ["a", "b"]})
    for data in (parquet(table)[:-20], arrow(table)[:-40], arrow(table, stream=True)[:150], b"PAR1" + b"x" * 50):
        assert "is not readable as" in refused(tmp_path, data, "x.parquet")
    assert "has no rows" in refused(tmp_path, parquet(table[:0]), "x.parquet")


ROWS = 1_000_000


def one_list() -> pa.Array:
    places, sizes = pa.array([0] * 10_000, pa.int32()), pa.array([100_000] * 10_000, pa.int32())
    return pa.ListViewArray.from_arrays(places, sizes, pa.nulls(100_000, pa.float64()))


def one_view() -> pa.Array:
    views, data = pa.array(["x" * 100_000], pa.string_view()).buffers()[1:]
    return pa.Array.from_buffers(pa.string_view(), 100_000, [None, pa.py_buffer(views.to_pybytes() * 100_000), data])


def one_text() -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 100_000]))


def many_items() -> pa.Array:
    return pa.array([[None] * 1000], pa.list_(pa.int8())).take(pa.array([0] * 50_000))


BOMBS = {  # kilobytes that hold gigabytes, or millions of cells
    "nulls": lambda: parquet(
        pa.table({f"c{i}": pa.nulls(ROWS, pa.int64()) for i in range(60)}), write_statistics=False
    ),
    "rows": lambda: parquet(pa.table({"c": pa.nulls(2 * ROWS, pa.int64())})),
    "one text": lambda: parquet(pa.table({"c": one_text()})),
    "one text in Arrow": lambda: arrow(pa.table({"c": one_text()})),
    "one list": lambda: arrow(pa.table({"c": one_list()})),
    "one view": lambda: arrow(pa.table({"c": one_view()})),
    "items": lambda: parquet(pa.table({"c": many_items()}), write_statistics=False),
    "fixed": lambda: arrow(pa.table({"c": pa.FixedSizeListArray.from_arrays(pa.nulls(10**9), 10**9)})),
    "rows of Arrow": lambda: arrow(pa.table({"c": pa.nulls(10**9)})),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_weighed_before_they_are_unpacked(tmp_path, name):
    data = BOMBS[name]()
    usual, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        message = refused(tmp_path, data, "x.parquet")
        python = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)
    assert "more than" in message or "room" in message
    assert python < 30 * 2**20 and (pool.max_memory() or 0) < 2**26


def test_what_is_heavy_and_named_by_none_does_not_refuse_the_file(tmp_path, monkeypatch):
    rows = 2000
    table = pa.table(
        {
            "text": ["a"] * rows,
            "embedding": pa.array([[0.5] * 200]).take(pa.array([0] * rows)),
            "nested": pa.array([{"k": "v", "l": [1, 2, 3]}]).take(pa.array([0] * rows)),
        }
    )
    monkeypatch.setattr(tables, "NESTED_BYTES", 50_000)
    for write in (parquet, arrow):
        limits = Limits(2**20 if write is parquet else 2**23, 10_000, 256, 100_000)
        result = take(tmp_path, write(table), "x.parquet", limits=limits)
        assert "text" in result.columns and result.understood.rows == rows
        assert "room" in result.skipped["nested"]
        assert ("embedding" in result.skipped) == (write is parquet)


def test_limits(tmp_path):
    small = Limits(max_bytes=10_000, max_rows=100, max_columns=3, max_cell_chars=10)
    assert "more than 100 rows" in refused(tmp_path, "t,u\n" + "a,b\n" * 101, limits=small)
    empty = "a,b,c,d,e\n" + "".join(f",,,,{i}\n" for i in range(400))
    assert "more than 10,000 bytes" in refused(tmp_path, empty, limits=Limits(10_000, 1000, 9, 10))
    cut = take(tmp_path, f"t,u\n{'é' * 30},b\n", limits=small)
    assert cut.columns["t"] == ["é" * 10] and "1 cell has more than 10 characters" in cut.notes
    nested = take(tmp_path, '{"t": "a", "n": {"k": "long enough"}}\n', "x.jsonl", limits=small)
    assert "row 1 holds more than 10 characters" in nested.skipped["n"]
    assert "NUL" in refused(tmp_path, parquet(pa.table({"t": ["a", "b\0"]})), "x.parquet")
