"""JSON: lines, arrays and the tables of pandas, with types as they are and faults by line."""

from __future__ import annotations

import json

import pytest

from core.rows.files import objects
from tests.rows.helpers import refused, take

ROWS = [{"text": f"film {i}, really", "label": i % 2} for i in range(20)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (LINES, "jsonl"),
        ("\ufeff" + LINES.replace("\n", "\r\n"), "jsonl"),
        (LINES.replace("\n", "\n\n"), "jsonl"),
        ("\n".join(json.dumps(row, indent=1) for row in ROWS), "jsonl"),
        (json.dumps(ROWS), "json"),
        (json.dumps(ROWS, indent=2), "json"),
        (
            json.dumps({"columns": ["text", "label"], "index": [0], "data": [list(row.values()) for row in ROWS]}),
            "json",
        ),
        (
            json.dumps({"schema": {"fields": [], "primaryKey": ["index"]}, "data": [{"index": 0, **r} for r in ROWS]}),
            "json",
        ),
        (json.dumps({name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]}), "json"),
        (json.dumps({str(i): row for i, row in enumerate(ROWS)}), "json"),
        (json.dumps({f"doc_{i}": row for i, row in enumerate(ROWS)}), "json"),
        (json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}), "json"),
        (json.dumps({"version": 1, "data": ROWS}), "json"),
        (json.dumps([[*ROWS[0]], *([*row.values()] for row in ROWS)]), "json"),
    ],
)
@pytest.mark.parametrize("name", ["x.json", "x.csv"])
def test_rows_are_found_however_they_are_laid_out(tmp_path, data, kind, name):
    result = take(tmp_path, data, name)
    assert result.rows == ROWS and result.understood.kind == kind
    assert ("Its name says" in result.notes) == (name == "x.csv")


def test_rows_by_ids_may_lack_keys(tmp_path):
    rows = {f"test_{i}": row | {"meta": {"n": i}} for i, row in enumerate(ROWS)}
    del rows["test_3"]["label"]
    result = take(tmp_path, json.dumps(rows), "x.json")
    assert result.columns["text"][3] == "film 3, really" and result.empty["label"] == 1
    assert "a row for each of its keys" in result.notes


@pytest.mark.parametrize("label", ["1", 1, None])
def test_arrays_of_cells_are_rows_whose_first_may_name_them(tmp_path, label):
    rows = [[f"a good one, number {i}.", "1" if label == "1" else i % 2] for i in range(20)]
    rows[0][1] = label
    found = take(tmp_path, json.dumps(rows), "x.json")
    assert found.columns == {"column1": [row[0] for row in rows], "column2": [row[1] for row in rows]}
    assert "column1, column2" in found.notes
    assert take(tmp_path, json.dumps([["text", "label"], *rows]), "x.json").columns["label"] == [row[1] for row in rows]
    told = take(tmp_path, json.dumps(rows), "x.json", header=True)
    assert [*told.columns] == [rows[0][0], str(label)] if label else told.columns


def test_columns_of_rows_by_ids(tmp_path):
    columns = {name: {f"doc_{i}": row[name] for i, row in enumerate(ROWS * 3)} for name in ROWS[0]}
    assert take(tmp_path, json.dumps(columns), "x.json").rows == ROWS * 3


def test_a_table_named_json_is_read_as_one(tmp_path):
    result = take(tmp_path, "text,label\na,b\n", "x.jsonl")
    assert result.rows == [{"text": "a", "label": "b"}] and "it is delimited text" in result.notes


def test_one_object_that_is_no_table_is_a_row_and_that_is_said(tmp_path):
    data = json.dumps({"pos": ["good one", "great", "so"], "neg": ["bad", "awful"]})
    assert take(tmp_path, data, "x.json").understood.rows == 1
    assert "was read as one row" in take(tmp_path, data, "x.json").notes
    assert "was read as one row" not in take(tmp_path, data, "x.jsonl").notes


def test_one_row_of_lists_in_lines_is_one_row(tmp_path):
    assert take(tmp_path, '{"tokens": ["a", "b"], "tags": ["O", "O"]}\n', "x.jsonl").understood.rows == 1


@pytest.mark.parametrize(
    ("values", "kept", "words"),
    [
        ([1, 2, None], [1, 2, None], "whole number"),
        ([1, 2.5, None], [1.0, 2.5, None], "number"),
        ([True, None], [True, None], "true or false"),
        (["2020-01-01", "007", "6f9619ff-8b86-d011-b42d-00c04fc964ff"], None, "text"),
        ([1, True, "x", 1.5, None], ["1", "true", "x", "1.5", None], "text"),
        ([2**70, 1], [str(2**70), "1"], "text"),
        ([["a"], [], None, ["b"]], None, "list of texts"),
        ([[0, 1], []], None, "list of whole numbers"),
        ([[0, 1.5]], [[0.0, 1.5]], "list of numbers"),
        ([[1.5, 2**53 + 1], [2]], [[1.5, 2.0**53], [2.0]], "list of numbers"),
        ([[1.5, 2**70]], [["1.5", str(2**70)]], "list of texts"),
        ([["a"], [1]], [["a"], ["1"]], "list of texts"),
        ([["a"], "b"], ['["a"]', "b"], "text"),
        ([{"choices": ["a"]}, "b"], ['{"choices": ["a"]}', "b"], "text"),
        ([{"a": [1]}, None], ['{"a": [1]}', None], "JSON"),
        ([[["a"]], []], ['[["a"]]', "[]"], "JSON"),
        ([[], []], None, "list of texts"),
    ],
)
def test_values_keep_their_types(tmp_path, monkeypatch, values, kept, words):
    data = "".join(json.dumps({"text": "a", "value": value}) + "\n" for value in values)
    result = take(tmp_path, data, "x.jsonl")
    assert result.columns["value"] == (values if kept is None else kept) and result.types["value"] == words
    several = kept is not None and words in ("text", "list of texts") and str(2**70) not in str(values)
    assert ("several kinds" in result.notes) == several
    monkeypatch.setattr(objects, "BATCH_ROWS", 1)  # kinds may change anywhere
    assert take(tmp_path, data, "x.jsonl").columns["value"] == result.columns["value"]


def test_numbers_that_are_none_are_empty(tmp_path):
    result = take(tmp_path, '{"t": "q", "m": NaN}\n{"t": "q", "m": 1.5}\n', "x.jsonl")
    assert result.columns["m"] == [None, 1.5] and result.empty == {"t": 0, "m": 1}


def test_keys_that_rows_lack_are_empty_and_empty_columns_are_left_out(tmp_path):
    result = take(tmp_path, '{"t": "q", "n": null}\n{"t": "r", "m": 1}\n{"m": 2, "": 3}\n', "x.jsonl")
    assert result.columns == {"t": ["q", "r", None], "m": [None, 1, 2]} and result.empty == {"t": 1, "m": 1}
    assert result.skipped["n"] == "is empty" and "name" in result.skipped[""]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (LINES + '{"text": "a", label: 1}\n' + LINES, "line 21: is not JSON"),
        (json.dumps(ROWS)[:-9], "line 1: "),
        (json.dumps(ROWS)[:-1], "not closed"),
        ('[{"a": 1}] x', "follows the end"),
        ('{"a": 1}\n[1]\n', "row 2 (line 2): is an array"),
        ('[["a", 1], ["b"]]', "row 2 (line 1): is no array of 2"),
        ('[["text", "label"], ["a", 1], ["b", [1]]]', "row 2 (line 1): is no array of 2"),
        ('[[["a"], 1]]', "row 1 (line 1): is an array"),
        ('"a"\n"b"\n', "row 1 (line 1): is a text"),
        ("[]", "has no rows"),
        ("{}\n{}\n", "no column"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON that can be read"),
        ('{"t": "a"}\n{"t": "b \\ud800 x"}\n', "row 2 (line 2), column 't': holds half of a surrogate pair"),
        ('{"t": ["a"]}\n\n{"t": ["b \\ud800 x"]}\n', "row 2 (line 3)"),
        ("{'text': 'a'}\n", "line 1: is not JSON"),
        (json.dumps({"train": ROWS, "test": ROWS[:5]}), "holds the splits 'train', 'test': write each as a file"),
        (json.dumps({"v": 1, "val": [["a", "x"]], "oos_train": [["b", "oos"]]}), "the splits 'val', 'oos_train'"),
        (
            json.dumps({"train": {"text": ["a"], "label": [1]}, "test": {"text": ["a"], "label": [1]}}),
            "'train', 'test'",
        ),
    ],
)
def test_faults_are_told_by_line(tmp_path, data, words):
    assert words in refused(tmp_path, data, "x.json")


def test_a_pair_of_surrogates_is_a_character(tmp_path):
    assert take(tmp_path, '{"t": "\\ud83d\\ude00"}', "x.jsonl").columns == {"t": ["😀"]}


def test_a_value_across_blocks_is_read(tmp_path):
    rows = [{"t": "ab" * 300_000, "n": i} for i in range(5)]
    result = take(tmp_path, json.dumps(rows, indent=1), "x.json")
    assert result.columns["n"] == [0, 1, 2, 3, 4]
    assert {len(text) for text in result.columns["t"]} == {100_000} and "5 cells" in result.notes
