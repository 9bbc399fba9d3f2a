"""Uploads: what is read, and what each bad file is told."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.ledger import datasets
from core.ledger.database import Database
from core.ledger.settings import Settings
from core.ledger.storage import Storage
from core.ledger.tables import DEFAULT_TENANT, Dataset
from core.spec.problems import SpecError
from tests.conftest import every_storage


@pytest.fixture
def limits(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, max_rows=1000, max_columns=5, max_cell_chars=1000, max_upload_bytes=100_000)


@pytest.fixture
def upload(storage: Storage, limits: Settings, tmp_path: Path) -> Any:
    def ingest(content: bytes | pa.Table, name: str) -> Dataset:
        path = tmp_path / "upload"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            pq.write_table(content, path)
        return datasets.ingest(path, name, storage, limits, DEFAULT_TENANT)

    return ingest


ROWS = {"text": ["good, really", "bad\nline"], "label": ["pos", "neg"]}
CSV = b'\xef\xbb\xbftext,label\r\n"good, really",pos\r\n\r\n"bad\nline",neg\r\n'
JSONL = b'{"text": "good, really", "label": "pos"}\n\n{"text": "bad\\nline", "label": "neg"}'


@every_storage
@pytest.mark.parametrize(
    ("content", "name"),
    [(CSV, "a.csv"), (JSONL, "a.jsonl"), (JSONL, "a.NDJSON"), (pa.table(ROWS), "a.parquet")],
    ids=["csv", "jsonl", "ndjson", "parquet"],
)
def test_every_format_gives_the_same_table(upload: Any, storage: Storage, content: Any, name: str) -> None:
    dataset = upload(content, name)
    assert (dataset.rows, dataset.columns, dataset.name) == (2, ["text", "label"], name)
    assert datasets.read_table(dataset, storage) == ROWS
    assert datasets.read_table(dataset, storage, ["label", "label", "missing"]) == {"label": ["pos", "neg"]}
    assert datasets.preview(dataset, storage, 1) == [{"text": "good, really", "label": "pos"}]


def test_labels_that_are_whole_numbers_are_arrays_of_names(upload: Any, storage: Storage) -> None:
    jsonl = b'{"text": "x", "label": [1, 22]}\n{"text": "y", "label": []}'
    table = pa.table({"text": ["x", "y"], "label": [[1, 22], []]})
    for content, name in ((jsonl, "a.jsonl"), (table, "a.parquet")):
        assert datasets.read_table(upload(content, name), storage)["label"] == ['["1", "22"]', "[]"]


def test_numbers_dates_and_gaps_become_text_and_null(upload: Any, storage: Storage) -> None:
    jsonl = b'{"a": 1, "b": true}\n{"a": null, "c": 0.5}\n{"a": NaN}'
    assert datasets.read_table(upload(jsonl, "a.jsonl"), storage) == {
        "a": ["1", None, None],
        "b": ["true", None, None],
        "c": [None, "0.5", None],
    }
    lists = b'{"words": ["Zo\u00eb", "sings"], "tags": []}'
    expected: dict[str, Any] = {"words": ['["Zo\u00eb", "sings"]'], "tags": ["[]"]}
    assert datasets.read_table(upload(lists, "a.jsonl"), storage) == expected
    table = pa.table({"words": [["Zo\u00eb", "sings"]], "tags": pa.array([[]], pa.list_(pa.string()))})
    assert datasets.read_table(upload(table, "a.parquet"), storage) == expected
    table = pa.table({"day": [datetime.date(2026, 1, 2)], "n": [float("nan")], "big": [2**60]})
    expected = {"day": ["2026-01-02"], "n": [None], "big": [str(2**60)]}
    assert datasets.read_table(upload(table, "a.parquet"), storage) == expected


@every_storage
def test_many_rows_with_columns_that_appear_late(upload: Any, storage: Storage, monkeypatch: Any) -> None:
    monkeypatch.setattr(datasets, "CHUNK_ROWS", 10)
    lines = [f'{{"text": "{i}"}}' for i in range(25)] + ['{"label": "late"}']
    table = datasets.read_table(upload("\n".join(lines).encode(), "a.jsonl"), storage)
    assert table["text"] == [*map(str, range(25)), None]
    assert table["label"] == [None] * 25 + ["late"]


DUPLICATE = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
_PAIR = pa.StructArray.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["a", "a"])
TWINS = pa.table({"text": _PAIR})
_WORDS = pa.DictionaryArray.from_arrays(pa.array([0] * 249, pa.int32()), pa.array(["a" * 900]))
REFERENCES = pa.table({"text": pa.ListArray.from_arrays(pa.array([0, 249], pa.int32()), _WORDS)})
NULLS = pa.table({"text": pa.ListArray.from_arrays(pa.array([0, 10**5], pa.int32()), pa.nulls(10**5, pa.string()))})
BAD = {
    "ending": (b"x", "a.xlsx", "must end in one of"),
    "no ending": (b"x", "data", "must end in one of"),
    "empty": (b"", "a.csv", "is empty"),
    "header only": (b"text,label\n", "a.csv", "has no rows"),
    "blank lines only": (b"\n\n", "a.jsonl", "has no rows"),
    "no rows": (pa.table({"text": pa.array([], pa.string())}), "a.parquet", "has no rows"),
    "column named twice": (b"text,text\na,b\n", "a.csv", "each once"),
    "column without name": (b"text,\na,b\n", "a.csv", "none empty"),
    "index of pandas": (b",text\n0,b\n", "a.csv", "first column has no name.*index=False"),
    "too few cells": (b"text,label\na,b\nc\n", "a.csv", "line 3: 1 cells"),
    "open quote": (b'text,label\n"a,b\n', "a.csv", "is not CSV"),
    "latin-1": ("text\ncafé\n".encode("latin-1"), "a.csv", "is not UTF-8"),
    "utf-16": ("text,label\na,b\n".encode("utf-16"), "a.csv", "is not UTF-8"),
    "utf-16 without mark": ("text,label\na,b\n".encode("utf-16-le"), "a.csv", "NUL"),
    "nul": (b"text\na\0b\n", "a.csv", "NUL"),
    "not json": (b'{"text": "a"}\n{text}', "a.jsonl", "line 2: is not JSON"),
    "json array": (b'["a"]', "a.jsonl", "not a JSON object"),
    "nested": (b'{"text": ["a", 1]}', "a.jsonl", "nested"),
    "deeply nested": (b'{"text": ' + b"[" * 5000 + b"]" * 5000 + b"}", "a.jsonl", "nested|not JSON"),
    "endless number": (b'{"text": ' + b"1" * 5000 + b"}", "a.jsonl", "is not JSON"),
    "half a surrogate pair": (b'{"text": "\\ud800"}', "a.jsonl", "surrogate"),
    "not parquet": (b"PAR1 but no", "a.parquet", "not readable as Parquet"),
    "binary column": (pa.table({"text": [b"\x00\x01"]}), "a.parquet", "binary"),
    "list column": (pa.table({"text": [[1.5]]}), "a.parquet", "nested"),
    "parquet names twice": (DUPLICATE, "a.parquet", "names a column twice"),
    "long cell": (b"text\n" + b"a" * 1001 + b"\n", "a.csv", "more than 1,000 characters"),
    "long json cell": (b'{"text": "' + b"a" * 1001 + b'"}', "a.jsonl", "more than 1,000 characters"),
    "many rows": (b"text\n" + b"a\n" * 1001, "a.csv", "more than 1,000 rows"),
    "many columns": (b"a,b,c,d,e,f\n1,2,3,4,5,6\n", "a.csv", "more than 5 columns"),
    "binary, half a surrogate pair for a name": (b'{"\\ud800": {"a": 1}}', "a.jsonl", "column name"),
    "parquet of many columns": (pa.table({name: ["x"] for name in "abcdef"}), "a.parquet", "more than 5 columns"),
    "struct": (pa.table({"text": [{"a": 1}]}), "a.parquet", "column 'text': is nested"),
    "struct of doubled names": (TWINS, "a.parquet", "column 'text': is nested"),
    "many references to one text": (REFERENCES, "a.parquet", "more than 1,000 characters"),
    "a list of many nulls": (NULLS, "a.parquet", "unpacks to more than"),
    "bomb": (pa.table({"text": ["a" * 1000] * 900}), "a.parquet", "unpacks to more than"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_what_is_wrong(upload: Any, limits: Settings, case: str) -> None:
    content, name, message = BAD[case]
    with pytest.raises(SpecError, match=message) as error:
        upload(content, name)
    assert error.value.field == "/file"
    assert len(error.value.message) < 500
    assert not [path for path in limits.blobs_dir.rglob("*") if path.is_file()]


def test_a_small_file_does_not_fill_the_memory(storage: Storage, limits: Settings, tmp_path: Path) -> None:
    """Of 64 rows that share one long cell, few are unpacked before that is seen to be too long."""
    cell = 2**22
    pq.write_table(pa.table({"text": ["a" * cell] * 64}), tmp_path / "a", dictionary_pagesize_limit=2 * cell)
    assert (tmp_path / "a").stat().st_size < 2**20
    default = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(default)
    pa.set_memory_pool(counted)
    try:
        for allowed, message in ((cell, "more than 1,000 characters"), (cell // 4, "unpacks to more than")):
            settings = limits.model_copy(update={"max_upload_bytes": allowed})
            with pytest.raises(SpecError, match=message):
                datasets.ingest(tmp_path / "a", "a.parquet", storage, settings, DEFAULT_TENANT)
            assert counted.max_memory() < 40 * cell
    finally:
        pa.set_memory_pool(default)


def test_a_line_of_json_is_not_read_without_end(upload: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "MAX_LINE_CHARS", 100)
    assert upload(b'{"text": "%s"}\n' % (b"a" * 86) * 2, "a.jsonl").rows == 2
    with pytest.raises(SpecError, match="line 2: has more than 100 characters"):
        upload(b'{"text": "a"}\n{"text": [%s]}' % b",".join([b"[]"] * 50), "a.jsonl")


@pytest.mark.parametrize("rest", [b",".join([b"x"] * 60), b'","'.join([b'"'] * 30), b'"' + b"a\n" * 60])
def test_a_row_of_csv_is_not_read_without_end(rest: bytes, upload: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one line or on many, which quotes hold together."""
    monkeypatch.setattr(datasets, "MAX_LINE_CHARS", 100)
    row = b'%s,"%s\n%s"\n' % (b"a" * 40, b"b" * 20, b"c" * 20)
    assert upload(b"text,more\n" + row * 5, "a.csv").rows == 5
    for content in (b"text,more\n" + row + rest, rest):
        with pytest.raises(SpecError, match="a row of more than 100 characters"):
            upload(content, "a.csv")


def test_nanoseconds_are_kept(upload: Any, storage: Storage) -> None:
    at = 1_700_000_000_000_000_001
    kinds = {"moment": pa.timestamp("ns"), "span": pa.duration("ns"), "time": pa.time64("ns")}
    table = pa.table({name: pa.array([at % 10**12, None], kind) for name, kind in kinds.items()})
    read = datasets.read_table(upload(table, "a.parquet"), storage)
    assert read == {
        "moment": ["1970-01-01 00:00:00.000000001", None],
        "span": ["1", None],
        "time": ["00:00:00.000000001", None],
    }


def test_a_column_may_be_named_like_one_of_arrows_scanner(upload: Any, storage: Storage) -> None:
    dataset = upload(b"__filename,text\na,b\n", "a.csv")
    assert datasets.read_table(dataset, storage, ["__filename", "text"]) == {"__filename": ["a"], "text": ["b"]}


def test_a_file_of_any_name_can_be_kept(upload: Any, database: Database) -> None:
    dataset = upload(CSV, "../../ü\0\ud800" + "x" * 300 + ".csv")
    with database.begin() as session:
        session.add(dataset)
    with database.read() as session:
        stored = datasets.find(session, DEFAULT_TENANT, dataset.id)
        assert stored is not None and stored.name.startswith("üx") and len(stored.name) == 200
        assert datasets.find(session, "tenant_other", dataset.id) is None
        assert [d.id for d in datasets.page(session, DEFAULT_TENANT, 10)] == [dataset.id]
        assert not datasets.page(session, DEFAULT_TENANT, 10, before=dataset.id)
