"""Which cells are run, in which order, and what is kept of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.transfer import data
from benchmarks.transfer.__main__ import next_cell
from benchmarks.transfer.cells import (
    ARMS,
    STEPS,
    WITH_TEXT_LEFT,
    Cell,
    Choice,
    append_result,
    code_of,
    finished,
    plan,
    read_results,
    refused,
    spec_of,
    steps_of,
    teacher_key,
)
from tests.benchmarks.transfer.helpers import FEW, YELP, line, vars_of


def test_what_decides_most_comes_first_and_no_cell_twice() -> None:
    cells = plan(Choice())
    assert len(cells) == len(set(cells))
    assert {cell.arm for cell in cells[:6]} == {"none", "teacher", "random"}
    assert {(cell.rows, cell.kept) for cell in cells[:18]} == {(100, 0.05)}
    assert plan(Choice(arms=["none"], seeds=[1], pairs=["mail->sms"], rows=[300], kept=[0.1])) == [
        Cell("mail->sms", 300, 0.1, "none", 1)
    ]
    assert plan(Choice(["movies->yelp"], [50], [0.2], ["joint"], [7])) == [Cell("movies->yelp", 50, 0.2, "joint", 7)]


@pytest.mark.parametrize("arm", [name for name in ARMS if refused(Cell("movies->yelp", 100, 0.05, name, 0)) is None])
def test_every_arm_is_a_job_of_equal_steps(arm: str) -> None:
    spec = spec_of(Cell("movies->yelp", 100, 0.05, arm, 3), STEPS)
    assert spec.train.seed == 3
    like = arm.removesuffix("-mean")
    assert bool(spec.sources) == (like not in ("none", "none-l0", "cofi", "own"))
    assert (spec.task.unlabelled is not None) == (like in ("own", "own-source"))
    assert spec.pooling == ("first" if like == arm else "mean")
    assert sum(steps_of(ARMS[arm], STEPS).values()) == sum(STEPS.values())


def test_a_teacher_is_shared_by_what_teaches_alike_only() -> None:
    def key(**change: Any) -> str:
        return teacher_key(Cell(**{**vars_of(YELP), **change}), STEPS)

    assert key() == key(kept=0.1) == key(arm="teacher-taught-plain") == key(pair="mail->yelp")
    assert key() != key(seed=1)
    assert key() != key(rows=300)
    taught = key(arm="teacher")
    assert taught == key(arm="sequential") == key(arm="random", kept=0.1)
    assert key(arm="own") == key() and key(arm="own-source") == taught
    assert key(arm="own-mean") == key(arm="none-mean") != key()
    assert len({key(), taught, key(arm="joint"), key(arm="auto"), key(arm="auto", kept=0.1)}) == 5
    assert taught != key(arm="teacher", pair="shuffled->yelp")


def test_a_teacher_of_other_code_is_taught_anew(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no Python"):
        code_of(tmp_path / "moved")
    keys = set()
    for file, text in (("train.py", "1"), ("train.py", "2"), ("moved/train.py", "2")):
        folder = tmp_path / f"{len(keys)}" / "core"
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_text(text)
        keys.add(code_of(folder))
    assert len(keys) == 3


def test_own_text_is_what_the_splits_of_the_target_leave() -> None:
    cells = [cell for cell in plan(Choice(arms=["own", "own-source"])) if cell.seed == 0]
    assert [(cell.pair, cell.arm) for cell in cells] == [
        (pair, arm) for pair in WITH_TEXT_LEFT for arm in ("own", "own-source")
    ]
    for cell in cells:
        task = spec_of(cell, STEPS).task
        assert task.unlabelled and task.unlabelled.data == task.data and task.split.test == data.PAIRS[cell.pair].test


def test_a_line_that_was_cut_off_is_run_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.jsonl"
    other = Cell("movies->yelp", 100, 0.05, "teacher", 0)
    assert read_results(path) == []
    append_result(path, line(YELP, 0.8))
    with path.open("a") as out:
        out.write('{"cell": {"pair"')
    assert finished(read_results(path), STEPS) == {YELP}
    append_result(path, line(other, 0.9))
    assert finished(read_results(path), STEPS) == {YELP, other}
    assert finished(read_results(path), FEW) == set()  # other steps are another run
    path.write_text("{}}\n" + path.read_text())
    with pytest.raises(ValueError, match="not JSON"):
        read_results(path)


def test_two_workers_do_not_teach_the_same_teacher_at_once(tmp_path: Path) -> None:
    cells = [Cell("movies->yelp", 100, kept, "none", seed) for seed in (0, 1) for kept in (0.05, 0.1)]
    keys = {cell: teacher_key(cell, STEPS) for cell in cells}
    assert next_cell(cells[1:], [cells[0]], keys, tmp_path) == cells[2]
    assert next_cell(cells[1:2], [cells[0]], keys, tmp_path) is None
    (tmp_path / keys[cells[0]]).mkdir()
    (tmp_path / keys[cells[0]] / "teach.json").write_text("{}")
    assert next_cell(cells[1:], [cells[0]], keys, tmp_path) == cells[1]
