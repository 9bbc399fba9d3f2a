"""Several columns that are a label each."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from core.rows.columns import Column
from core.rows.splitting.splits import prepare
from tests.rows.labels.helpers import ALL, SETS, A, found, refusal, said, spec_of
from tests.tables import columns


@pytest.mark.parametrize(
    "yes_no", [(1, 0), ("1", "0"), ("1.0", "0.0"), (True, False), ("yes", "no"), ("True", "False")]
)
def test_several_columns_are_a_label_each(yes_no: tuple[Any, Any]) -> None:
    cells = {name: [yes_no[name not in held] for held in SETS] for name in ALL}
    table = columns(text=[f"t{i}" for i in range(len(SETS))], **cells)
    spec = spec_of(label=ALL)
    assert (spec.task.problem, spec.task.metric) == ("multi_label_classification", "micro_f1")
    splits = prepare(spec, {A: table})
    assert splits.labels == ALL and found(splits) == Counter(tuple(sorted(held)) for held in SETS)
    renamed = prepare(spec_of(label=ALL, label_map={"threat": "insult"}), {A: table})
    assert renamed.labels == ["insult", "toxic"]


def test_a_row_that_lacks_one_of_several_columns_has_no_answer() -> None:
    table = columns(text=[f"t{i}" for i in range(24)], a=["1", "0", "", "-1"] * 6, b=["0", "1", "1", "-1"] * 6)
    splits = prepare(spec_of(label=["a", "b"]), {A: table})
    assert splits.dropped == {"rows without label": 6, "rows whose label '-1' is taken as no answer": 6}


def test_a_column_that_no_row_sets_is_told() -> None:
    table = columns(text=[f"t{i}" for i in range(24)], a=[1, 0] * 12, b=[0, 1] * 12, c=[0] * 24, d=["no"] * 24)
    spec = spec_of(label=["a", "b", "c", "d"])
    splits = prepare(spec, {A: table})
    assert splits.labels == ["a", "b"]
    assert "no row says that 'c', 'd' apply: the model will not know them" in said(splits, spec)
    few = spec_of(label=["a", "b", "c"], label_map={"b": "x"})
    assert "no row says that 'c' applies: the model will not know it" in said(prepare(few, {A: table}), few)
    whole = spec_of(label=["a", "b"], label_map={"b": "x"})
    assert "will not know" not in said(prepare(whole, {A: table}), whole)


def test_faults_of_several_columns_name_each() -> None:
    table = dict(columns(text=[f"t{i}" for i in range(20)], a=["1", "0"] * 10, b=["1", "0.83"] * 10))
    table |= {"c": Column(["x"] * 20)}
    (b, c) = refusal(table, label=["a", "b", "c"])
    assert b[0] == "/task/label/1" and b[1].startswith("row 2: '0.83' does not say") and c[0] == "/task/label/2"
    assert [field for field, _ in refusal(table, label=["d", "a", "e"])] == ["/task/label/0", "/task/label/2"]
    spec = spec_of(label=["a", "b"])
    assert list(spec.columns()) == [(A, {"/task/text/0": "text", "/task/label/0": "a", "/task/label/1": "b"})]
