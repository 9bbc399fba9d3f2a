"""What cells mean as numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from core.rows.splitting.splits import prepare
from tests.rows.labels.helpers import NUMBER, A, B, found, labelled, refusal, said, spec_of, taken


@pytest.mark.parametrize(
    "write",
    [float, repr, lambda n: f"{n:.2f}".replace(".", ","), lambda n: f" {n} ", lambda n: [n], lambda n: int(n * 4)],
)
def test_numbers_however_they_are_written(write: Callable[[float], Any]) -> None:
    values = [i / 4 for i in range(40)]
    rows = found(taken([write(value) for value in values], **NUMBER))
    assert sorted(rows) in (values, list(range(40)))


def test_decimal_commas_are_said_and_thousands_are_not_guessed() -> None:
    assert "decimal commas are read as points" in taken([f"{i},{i % 10}" for i in range(40)], **NUMBER).notes
    for cells in (["1,234", "12,500"] * 10, ["0,5", "1.5"] * 10):
        ((field, message),) = refusal(labelled(cells), **NUMBER)
        assert field == "/task/label" and "row 1" in message and "point" in message


def test_a_cell_that_is_no_number_hides_no_decimal_commas() -> None:
    cells = [f"{i},{i % 10}" for i in range(20)] + ["k.A."]
    assert "row 21: 'k.A.' is not a finite number" in refusal(labelled(cells), **NUMBER)[0][1]
    left = taken(cells, label_map={"k.A.": None}, **NUMBER)
    assert left.dropped.total() == 1 and 19.9 in found(left)


def test_what_is_no_number() -> None:
    assert "row 1: true" in refusal(labelled([True, False] * 10), **NUMBER)[0][1].casefold()
    numbers = [str(i) for i in range(20)]
    left = taken([*numbers, "nan", "", "NA"], **NUMBER)
    assert left.dropped.total() == 3 and "the label 'NA' of 1 rows is taken as no answer" in " ".join(left.warnings)
    assert "row 21: 'n/a' is not a finite number" in refusal(labelled([*numbers, "n/a"]), **NUMBER)[0][1]
    assert taken([*numbers, "n/a"], label_map={"n/a": None}, **NUMBER).dropped == {
        "rows that 'label_map' leaves out": 1
    }
    assert 7.5 in found(taken([*numbers, "high"], label_map={"high": "7.5"}, **NUMBER))


def test_one_number_in_all_test_rows_is_doubted() -> None:
    tables = {A: labelled([i / 4 for i in range(40)]), B: labelled([0.0] * 20, start=40)}
    spec = spec_of({"train": {"dataset": A}, "test": {"dataset": B}}, **NUMBER)
    assert "all test rows have one value (0): no correlation" in said(prepare(spec, tables), spec)
    assert "one value" not in said(taken([i / 4 for i in range(40)], **NUMBER), **NUMBER)
