"""Files as people have them, through the API: uploaded, planned, and what was understood of them said.

tests/cases/README.md says what each file is. Expected is either a plan (its classes, what it says) or a refusal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MODEL, one_database

CASES = Path(__file__).parents[1] / "cases" / "data"
POLAR = ["neg", "pos"]
MULTI = {"problem_type": "multi_label_classification", "label": "labels"}
TAGS = {"type": "token-classification", "text": ["tokens"], "label": "ner_tags"}


@dataclass(frozen=True)
class Case:
    """A file, how a job names its columns, and what is expected."""

    file: str
    expected: str
    labels: list[str] | None = None  # of the plan; None: the file or the job is refused
    says: str = ""  # a pattern in what the upload or the plan says, or in the refusal
    task: dict[str, Any] = field(default_factory=dict)
    rows: int = 60  # of the data set
    skipped: tuple[str, ...] = ()


EVERY = [
    Case("c01_pandas_index.csv", "the unnamed index column is left out", POLAR, "index"),
    Case("c02_semicolon.csv", "two columns", POLAR, "';'|semicolon"),
    Case("c02b_semicolon_commas.csv", "two columns", POLAR, "';'|semicolon"),
    Case("c03b.tsv", "two columns", POLAR, "tab"),
    Case(
        "c04_kaggle_spam.csv",
        "columns v1 and v2, decoded; three empty columns left out",
        POLAR,
        "(?i)1252|latin",
        {"text": ["v2"], "label": "v1"},
    ),
    Case("c05_latin1.csv", "decoded", POLAR, "(?i)1252|latin"),
    Case("c06_utf16.csv", "decoded: the byte order mark says it", POLAR, "(?i)utf-16"),
    Case("c07_space_header.csv", "column 'label' is found", POLAR),
    Case("c07b_space_cells.csv", "column 'label' is found, its cells without the space", POLAR),
    Case("c08_sep_line.csv", "the line is skipped", POLAR, "sep="),
    Case("c10_backslash.csv", "read", POLAR),
    Case(
        "c11_noheader.csv",
        "no row is lost, and asks whether the first is a header",
        POLAR,
        "header=true",
        {"text": ["column2"], "label": "column1"},
    ),
    Case("c13.xlsx", "read", POLAR, "xlsx|workbook"),
    Case("c13b_xlsx_named.csv", "read as the workbook that it is, and says so", POLAR, "workbook"),
    Case("c14.csv.gz", "read", POLAR, "gz"),
    Case("c14c.zip", "read", POLAR, "zip"),
    Case("c15b_array.jsonl", "read, and says that it is one array", POLAR, "one JSON value"),
    Case("c15c_hf_tojson.json", "read", POLAR),
    Case("c16_ls_choices.json", "read", POLAR, "", {"label": "sentiment"}),
    Case("c16b_ls_multi.csv", "both forms are read", ["a", "b"], "", {**MULTI, "label": "topics"}),
    Case("c17_meta_dict.jsonl", "read", POLAR),
    Case("c17c_doccano.jsonl", "a list of one is that name", POLAR, "list"),
    Case("c18c_nan_text.csv", "'nan' is no answer: left out and counted", POLAR, "nan"),
    Case("c19_float_train.csv", "classes 0 and 1", ["0", "1"]),
    Case("c21_minus1.jsonl", "-1 is left out and counted", ["0", "1", "2"], "-1", {"text": ["premise", "hypothesis"]}),
    Case("c22_multihot.jsonl", "three labels", ["LABEL_0", "LABEL_1", "LABEL_2"], "zeros and ones", MULTI),
    Case("c22b_multihot_float.jsonl", "three labels", ["LABEL_0", "LABEL_1", "LABEL_2"], "zeros and ones", MULTI),
    Case("c22d_multihot.csv", "three labels", ["LABEL_0", "LABEL_1", "LABEL_2"], "zeros and ones", MULTI),
    Case("c22_multihot.jsonl", "of one class a row, refused", None, "multi_label_classification", {"label": "labels"}),
    Case(
        "c23_onehot_columns.csv",
        "three labels",
        ["insult", "threat", "toxic"],
        "",
        {**MULTI, "text": ["comment_text"], "label": ["toxic", "insult", "threat"]},
    ),
    Case("c24_pyrepr.csv", "read as lists", ["insult", "threat", "toxic"], "", MULTI),
    Case("c25_comma.csv", "split, and says so", ["insult", "threat", "toxic"], "','|comma", MULTI),
    Case("c27g_listview.parquet", "read", ["insult", "threat", "toxic"], "", MULTI),
    Case("c28_classlabel.parquet", "the names of the classes", ["negative", "positive"]),
    Case("c29_conll_hf.parquet", "tags by name", ["B-PER", "O"], "", TAGS),
    Case("c29c.conll", "read", ["B-PER", "O"], "", {**TAGS, "label": "tags"}),
    Case("c30_embedding.parquet", "read", POLAR),
    Case("c30b_argilla.parquet", "read", POLAR),
    Case("c30c_argilla_label.parquet", "refused: no class name", None, "/task/label"),
    Case("c32_time.parquet", "read", POLAR),
    Case("c35_many.csv", "a plan, or a refusal that names the rare classes", None, "intent_", rows=400),
    Case(
        "c38b_decimal_comma.csv",
        "read as numbers, and says so",
        ["score"],
        "decimal comma",
        {"label": "score", "problem_type": "regression"},
    ),
    Case("c39_label_case.csv", "two classes, or a warning", None, "(?i)'?negative"),
    Case("c40_pipe_none.csv", "an empty cell: none apply", ["insult", "threat", "toxic"], "no label applies", MULTI),
    Case("c41_ner_empty_token.jsonl", "read", ["B-PER", "O"], "", TAGS),
    Case("c42_bioes.jsonl", "read, entity F1", None, "", TAGS),
    Case("c43.arrow", "read", POLAR),
    Case("c45_one_bad_byte.csv", "refused: names the line", None, "line 5\\d"),
    Case("c48_nul.csv", "refused: names the row", None, "row 3"),
    Case("c49_wide.csv", "read; most unused columns left out", POLAR),
    Case("c51_pandas_columns.json", "read", POLAR),
    Case("c60_ts_year10000.parquet", "read", POLAR),
    Case("c61_ts_zone_unknown.parquet", "read", POLAR),
    Case("c69_bytes.parquet", "read as UTF-8", POLAR),
    Case("c75_multiline_rownumber.csv", "refused: row 30, or line 61", None, "row 30|line 61"),
    Case("c76_tokens_as_text.jsonl", "the words joined, and says so", POLAR, "joined"),
]


def sentences(answer: Any) -> list[str]:
    """Of an upload or a plan: what was understood, in words."""
    found = answer.get("understood") or {}
    return [*(found.get("notes") or []), *(answer.get("notes") or []), *(answer.get("warnings") or [])]


@one_database
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=f"{case.file}-{case.labels and len(case.labels)}",
            marks=pytest.mark.field("1. Data at the door", f"`{case.file}`", case.expected),
        )
        for case in EVERY
    ],
)
def test_a_file_is_read_or_refused_in_words(case: Case, client: TestClient, record_property: Any) -> None:
    content = (CASES / case.file).read_bytes()
    answer = client.post("/v1/datasets", files={"file": (case.file, content)})
    assert answer.status_code in (201, 422), answer.text
    said, labels = [], None
    if answer.status_code == 201:
        data = answer.json()
        assert data["rows"] == case.rows
        said += sentences(data)
        task = {"data": {"dataset": data["id"]}, **case.task}
        answer = client.post("/v1/jobs:validate", json={"model": MODEL, "task": task, "budget": {"params": 0.5}})
        assert answer.status_code in (200, 422), answer.text
    if answer.status_code == 200:
        labels = answer.json()["labels"]
        said += sentences(answer.json())
        got = f"read; classes {', '.join(map(repr, labels[:4]))}" + f" and {len(labels) - 4} more" * (len(labels) > 4)
    else:
        refusals = [f"{fault['pointer']}: {fault['detail']}" for fault in answer.json()["errors"]]
        said += refusals
        got = "refused: " + "; ".join(refusals)
    record_property("got", got[:300])
    if case.labels is not None:
        assert labels == case.labels, answer.text
    assert not case.says or any(re.search(case.says, line) for line in said), said
