"""Each file of tests/cases/data is read as its README says, or refused with a message that tells why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.rows.helpers import Read, refused, take

CASES = Path(__file__).parents[2] / "cases" / "data"
TEXT = "w38 w22 w24 poor w6 w42 w12"
FIRST = {"text": TEXT, "label": "neg"}
REFUSED = {
    "c45_one_bad_byte.csv": ("line 58", "0xe9"),
    "c48_nul.csv": ("row 3 (line 4)", "NUL"),
    "c75_multiline_rownumber.csv": ("row 30 (line 61)", "NUL"),
}
PLAIN = [  # read as 60 rows of text and label
    "c01_pandas_index.csv",
    "c02_semicolon.csv",
    "c03b.tsv",
    "c05_latin1.csv",
    "c06_utf16.csv",
    "c07_space_header.csv",
    "c08_sep_line.csv",
    "c13.xlsx",
    "c13b_xlsx_named.csv",
    "c14.csv.gz",
    "c14c.zip",
    "c15b_array.jsonl",
    "c15c_hf_tojson.json",
    "c17_meta_dict.jsonl",
    "c30_embedding.parquet",
    "c30b_argilla.parquet",
    "c32_time.parquet",
    "c43.arrow",
    "c49_wide.csv",
    "c51_pandas_columns.json",
    "c60_ts_year10000.parquet",
    "c61_ts_zone_unknown.parquet",
    "c69_bytes.parquet",
]


@pytest.fixture
def case(tmp_path: Path):  # type: ignore[no-untyped-def]
    def read_case(name: str) -> Read:
        return take(tmp_path, (CASES / name).read_bytes(), name)

    return read_case


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.iterdir()))
def test_every_case_is_read_or_refused_in_words(name: str, tmp_path: Path) -> None:
    data = (CASES / name).read_bytes()
    if name in REFUSED:
        message = refused(tmp_path, data, name)
        assert all(word in message for word in REFUSED[name])
        return
    result = take(tmp_path, data, name)
    assert result.understood.rows == len(result.rows) == {"c19_int_test.csv": 40, "c35_many.csv": 400}.get(name, 60)
    json.dumps(result.preview, allow_nan=False)


@pytest.mark.parametrize("name", PLAIN)
def test_text_and_label_are_found(name: str, case) -> None:  # type: ignore[no-untyped-def]
    result = case(name)
    assert {key: result.rows[0][key] for key in FIRST} == FIRST
    assert result.values["label"] == {"neg": 30, "pos": 30}


def test_kinds_encodings_delimiters_and_packings_are_told(case) -> None:  # type: ignore[no-untyped-def]
    def told(name: str) -> tuple[str | None, ...]:
        it = case(name).understood
        return it.kind, it.compression, it.encoding, it.delimiter

    assert told("c02_semicolon.csv") == ("csv", None, "UTF-8", ";")
    assert told("c03b.tsv") == ("csv", None, "UTF-8", "\t")
    assert told("c06_utf16.csv") == ("csv", None, "UTF-16", ",")
    assert told("c05_latin1.csv") == ("csv", None, "Windows-1252", ",")
    assert told("c14.csv.gz") == ("csv", "gzip", "UTF-8", ",")
    assert told("c14c.zip") == ("csv", "zip", "UTF-8", ",")
    assert told("c13b_xlsx_named.csv") == ("xlsx", None, None, None)
    assert told("c15b_array.jsonl") == ("json", None, "UTF-8", None)
    assert told("c15c_hf_tojson.json") == ("jsonl", None, "UTF-8", None)
    assert told("c43.arrow") == ("arrow", None, None, None)
    assert told("c29c.conll") == ("conll", None, "UTF-8", None)


def test_what_was_mended_or_left_out_is_said(case) -> None:  # type: ignore[no-untyped-def]
    assert "index of pandas" in case("c01_pandas_index.csv").notes
    assert "Windows-1252" in case("c05_latin1.csv").notes
    assert "sep=," in case("c08_sep_line.csv").notes
    assert "Its name says delimited text, but it is an Excel workbook" in case("c13b_xlsx_named.csv").notes
    assert "one JSON value" in case("c15b_array.jsonl").notes
    assert "decimal comma" in case("c38b_decimal_comma.csv").notes
    assert "column for each of its keys" in case("c51_pandas_columns.json").notes


def test_a_semicolon_is_found_among_commas(case) -> None:  # type: ignore[no-untyped-def]
    assert case("c02b_semicolon_commas.csv").rows[0] == {"text": "w38, w22 w24 poor w6 w42 w12", "label": "neg"}
    assert case("c38b_decimal_comma.csv").rows[0] == {"text": TEXT, "score": "0,78"}


def test_columns_of_trailing_commas_go_and_latin1_is_read(case) -> None:  # type: ignore[no-untyped-def]
    result = case("c04_kaggle_spam.csv")
    assert list(result.columns) == ["v1", "v2"]
    assert result.rows[2] == {"v1": "neg", "v2": "w11, awful w46 w10 w19 café w21"}


def test_padding_goes_and_backslashes_are_read(case) -> None:  # type: ignore[no-untyped-def]
    assert case("c07b_space_cells.csv").rows[0] == {"text": f"{TEXT}, ok", "label": "neg"}
    assert case("c10_backslash.csv").rows[0] == {"text": f'he said "{TEXT}", ok', "label": "neg"}


def test_a_first_row_of_data_is_kept_and_asked_about(case) -> None:  # type: ignore[no-untyped-def]
    result = case("c11_noheader.csv")
    assert result.understood.header is False
    assert result.rows[0] == {"column1": "neg", "column2": TEXT}
    assert "looks like data" in result.notes and "header=true" in result.notes


def test_spellings_of_text_survive(case) -> None:  # type: ignore[no-untyped-def]
    assert case("c18c_nan_text.csv").values["label"] == {"pos": 24, "neg": 24, "nan": 12}
    floats, ints = case("c19_float_train.csv"), case("c19_int_test.csv")
    assert (floats.values["label"], floats.empty["label"]) == ({"0.0": 30, "1.0": 29}, 1)
    assert ints.values["label"] == {"0": 20, "1": 20}
    assert case("c22d_multihot.csv").rows[0]["labels"] == "[0, 0, 1]"
    assert case("c24_pyrepr.csv").rows[0]["labels"] == "['threat']"
    assert case("c39_label_case.csv").values["label"].keys() == {"Negative ", "Positive", "negative", "positive"}
    assert (case("c40_pipe_none.csv").empty["labels"], case("c25_comma.csv").empty["labels"]) == (13, 19)
    assert case("c16b_ls_multi.csv").rows[1]["topics"] == '{"choices": ["a", "b"]}'


def test_types_of_json_survive(case) -> None:  # type: ignore[no-untyped-def]
    assert case("c21_minus1.jsonl").values["label"] == {"1": 20, "2": 20, "0": 13, "-1": 7}
    assert case("c22_multihot.jsonl").rows[0]["labels"] == [0, 0, 1]
    assert case("c22b_multihot_float.jsonl").types["labels"] == "list of numbers"
    assert case("c17c_doccano.jsonl").rows[0]["label"] == ["neg"]
    assert case("c76_tokens_as_text.jsonl").rows[0]["text"] == TEXT.split()
    assert case("c16_ls_choices.json").types["lead_time"] == "number"


def test_what_is_nested_is_kept_as_json(case) -> None:  # type: ignore[no-untyped-def]
    meta = case("c17_meta_dict.jsonl")
    assert meta.table["meta"].nested and json.loads(meta.rows[0]["meta"]) == {"source": "x", "n": 0}
    label = case("c30c_argilla_label.parquet")
    assert label.table["label"].nested and json.loads(label.rows[0]["label"])[0]["value"] == "neg"
    assert meta.preview[0]["meta"] == {"source": "x", "n": 0}


def test_names_of_classes_come_with_the_file(case) -> None:  # type: ignore[no-untyped-def]
    label = case("c28_classlabel.parquet")
    assert label.table["label"].names == ("negative", "positive")
    assert label.values["label"] == {"negative": 30, "positive": 30} and label.preview[0]["label"] == "negative"
    tags = case("c29_conll_hf.parquet")
    assert tags.table["ner_tags"].names == ("O", "B-PER", "I-PER")
    assert tags.rows[0]["ner_tags"] == [1, 0, 0, 1, 0]


def test_conll_is_words_and_tags(case) -> None:  # type: ignore[no-untyped-def]
    assert case("c29c.conll").rows[0] == {
        "tokens": ["w39", "w2", "w37", "w19", "w34"],
        "tags": ["B-PER", "O", "O", "B-PER", "O"],
    }


def test_views_moments_and_bytes_are_read(case) -> None:  # type: ignore[no-untyped-def]
    assert case("c27g_listview.parquet").rows[0]["labels"] == ["threat"]
    assert case("c60_ts_year10000.parquet").rows[0]["expires"].startswith("10000-01-01")
    assert case("c61_ts_zone_unknown.parquet").rows[0]["at"] == "2023-11-14 22:13:20.000000Z"
    when = case("c32_time.parquet")
    assert when.rows[0]["when"].startswith("2024-01-01") and "spans of time" in when.skipped["d"]


def test_of_hundreds_of_columns_text_and_label_are_kept(case) -> None:  # type: ignore[no-untyped-def]
    result = case("c49_wide.csv")
    assert len(result.columns) == 256 and {"text", "label"} <= result.columns.keys()
    assert "386 columns" in result.notes and len(result.skipped) == 100
