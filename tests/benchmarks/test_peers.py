"""The rows that benchmarks/peers deals out, and the page that it makes of answers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers.contender import Cell
from benchmarks.peers.data import EACH, TARGETS, Given, given
from benchmarks.peers.ours import SIZES, spec_of
from benchmarks.peers.table import as_fast, markdown, of_rows
from benchmarks.transfer.data import write


@pytest.fixture
def table(tmp_path: Path) -> Path:
    labels = ["rare"] * 20 + ["often"] * 480
    write(tmp_path / "table.parquet", [(f"Text {i} of {label}", label) for i, label in enumerate(labels)])
    return tmp_path / "table.parquet"


@pytest.fixture
def rows(table: Path) -> Given:
    return given(table, 100, 0)


def test_no_text_is_in_two_parts_and_every_class_is_in_train_and_dev(rows: Given) -> None:
    parts = [[text for text, _ in part] for part in (rows.train, rows.dev, rows.test)] + [rows.texts]
    assert max(Counter(text for part in parts for text in part).values()) == 1
    assert sum(map(len, parts)) == 500 and len(rows.test) == 200
    assert {label for _, label in rows.train} == {label for _, label in rows.dev} == {"rare", "often"}
    assert abs(len(rows.labelled) - 100) <= 2 and len(rows.dev) == pytest.approx(len(rows.train) / 3, abs=2)


def test_of_each_class_there_are_as_many(table: Path) -> None:
    few = given(table, EACH, 0)
    assert Counter(label for _, label in few.labelled) == {"rare": EACH, "often": EACH}
    assert Counter(label for _, label in few.dev) == {"rare": 2, "often": 2}


def test_the_job_is_one_that_a_user_could_post(tmp_path: Path) -> None:
    spec = spec_of(Cell(TARGETS["sms"], 100, 1, tmp_path), SIZES, "fisher", texts=True)
    assert [size.budget.params for size in spec.sizes] == [*SIZES] and spec.task.unlabelled is not None


def line(name: str, said: str, dense: float, own: float, seed: int = 0) -> dict[str, Any]:
    made = {"name": name, "said": said, "ms": {b: {"dense": dense, "own": own} for b in ("1", "32")}}
    facts = {"target": "yelp", "rows": 100, "seed": seed, "labels": ["no", "yes"], "truth": "ab" * 50}
    return facts | {"made": [made | {"bytes": 2e6, "seconds": 3.0}]}


def test_a_contender_stands_beside_the_file_that_is_at_least_as_fast() -> None:
    right, half = "ab" * 50, "aa" * 50
    lines = [
        line("Topwork dense", right, 10, 10),
        line("Topwork 0.1", half, 10, 2),
        line("Topwork, rows alone 0.1", right, 10, 2),  # is no file of the comparison
        line("SetFit", right, 10, 4),
        line("model2vec", half, 10, 0.1),
    ]
    answers = of_rows(lines, 100)
    assert as_fast(answers, 1.04) == "Topwork dense" and as_fast(answers, 2.5) == "Topwork 0.1"
    assert as_fast(answers, 100) is None
    page = markdown(lines)
    assert "| SetFit | 100.0 | 100.0 | 2.5x / 2.5x | 2.0 | 3 |" in page
    assert "| SetFit | Topwork 0.1 | **+50.0 (" in page
    assert "| model2vec | none is as fast |  |" in page


def test_several_seeds_are_paired() -> None:
    lines = [
        line(name, said, 10, 10, seed)
        for seed in (0, 1)
        for name, said in (("Topwork dense", "ab" * 50), ("SetFit", "ab" * 50))
    ]
    assert "| SetFit | Topwork dense | +0.0 (+0.0 to +0.0) |" in markdown(lines)
