"""What each coupling trains on, stage by stage."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.domains.network import TARGET
from core.pruning.training.batches import Rows, draw
from core.pruning.training.coupling import TaskRows, first_rows, phases
from core.tasks.classes import SingleLabel
from tests.pruning.conftest import IDS


def task(n: int, head: str = TARGET, *, labels: bool = True, taught: bool = False) -> TaskRows:
    """Rows of random lengths."""
    generator = torch.Generator().manual_seed(n)
    ids = [torch.ones(int(torch.randint(3, 30, (1,), generator=generator)), dtype=torch.long) for _ in range(n)]
    rows = Rows({"input_ids": ids}, torch.arange(n) % 2 if labels else torch.full((n,), -1), SingleLabel(), IDS)
    return TaskRows(replace(rows, logits=torch.zeros(n, 2)) if taught else rows, head, 2 if labels else 0)


@pytest.mark.parametrize("coupling", ["none", "sequential", "joint", "tied", "teacher"])
@pytest.mark.parametrize("stage", ["teach", "prune", "recover"])
def test_every_batch_has_the_same_size_and_the_last_phase_is_the_target(coupling: str, stage: str) -> None:
    taught = stage != "teach"
    target, sources = task(20, taught=taught), [task(50, "source0", taught=taught), task(30, "source1", taught=taught)]
    plan = phases(coupling, stage, True, target, sources, 32)
    assert all(sum(stream.share for stream in phase.streams) == 32 for phase in plan)
    assert any(stream.rows is target.rows for stream in plan[-1].streams)


def test_many_small_sources_do_not_enlarge_a_batch() -> None:
    sources = [task(n, f"source{i}") for i, n in enumerate((500, *[10] * 7))]
    for coupling in ("sequential", "joint"):
        first, *_ = phases(coupling, "recover", True, task(20), sources, 16)
        assert sum(stream.share for stream in first.streams) == 16
        assert all(stream.share for stream in first.streams)


@pytest.mark.parametrize("sizes", [[100] * 6, [10, 300, 300, 300, 300], [70, 40, 90]])
def test_a_batch_is_shared_in_proportion_whatever_the_order_of_the_sources(sizes: list[int]) -> None:
    def shares(order: list[int]) -> list[int]:
        (phase,) = phases("joint", "prune", True, task(20), [task(n, f"source{n}") for n in order], 32)
        return [stream.share for stream in phase.streams[1:]]

    exact = [16 * n / sum(sizes) for n in sizes]
    assert sum(shares(sizes)) == 16
    assert all(max(1, int(part)) <= found <= int(part) + 1 for found, part in zip(shares(sizes), exact, strict=True))
    assert sorted(shares(sizes)) == sorted(shares(sizes[::-1]))


def test_a_stage_that_transfer_may_not_enter_sees_the_target_alone() -> None:
    target = task(20)
    for coupling in ("sequential", "teacher"):
        plan = phases(coupling, "recover", False, target, [task(50)], 32)
        assert [stream.rows for phase in plan for stream in phase.streams] == [target.rows]


def test_teacher_coupling_distils_source_text_and_ignores_its_labels() -> None:
    target, source = task(20, taught=True), task(50, "source0", taught=True)
    (phase,) = phases("teacher", "prune", True, target, [source], 32)
    own, borrowed = phase.streams
    assert (own.label_weight, own.distil_weight) == (1.0, 1.0)
    assert (borrowed.label_weight, borrowed.distil_weight, borrowed.head) == (0.0, 1.0, TARGET)


def test_text_enters_a_batch_by_the_square_roots_of_how_many_rows_there_are() -> None:
    def shares(batch_size: int, *rows: int) -> list[int]:
        sources = [task(n, taught=True) for n in rows]
        (phase,) = phases("teacher", "recover", True, task(100, taught=True), sources, batch_size)
        return [stream.share for stream in phase.streams]

    assert shares(32, 100) == [16, 16]
    assert shares(32, 4900) == [4, 28]
    assert shares(32, 2450, 2450) == [4, 14, 14]
    assert shares(2, 4900) == [1, 1]  # the target stays
    part = replace(task(50, taught=True), drawn_from=4900)
    (phase,) = phases("teacher", "recover", True, task(100, taught=True), [part], 32)
    assert [stream.share for stream in phase.streams] == [4, 28]


@pytest.mark.parametrize("coupling", ["joint", "teacher", "sequential"])
def test_rows_that_are_never_drawn_are_left_out_and_no_batch_changes(coupling: str) -> None:
    sources = [task(900, "source0", taught=True), task(90, "source1", taught=True), task(3, "source2", taught=True)]
    parts = first_rows(coupling, sources, 10, 16)
    assert [len(part.rows) for part in parts] == [150, 20, 3]
    assert [len(part.rows) for part in first_rows(coupling, sources, 100, 16)] == [900, 90, 3]
    plans = [phases(coupling, "recover", True, task(20, taught=True), given, 16) for given in (sources, parts)]
    whole, cut = ([[stream.share for stream in phase.streams] for phase in plan] for plan in plans)
    assert whole == cut


def test_sequential_draws_its_batches_from_labelled_sources_alone() -> None:
    sources = [task(300, "source0", taught=True), task(3000, labels=False)]
    assert len(first_rows("sequential", sources, 10, 16)[0].rows) == 160
    assert len(first_rows("teacher", sources, 10, 16)[0].rows) == 20


def test_unlabelled_source_cannot_teach() -> None:
    target, source = task(20), task(50, labels=False)
    assert len(phases("teacher", "teach", True, target, [source], 32)) == 1


def test_joint_trains_both_tasks_on_their_labels_under_the_same_masks() -> None:
    (phase,) = phases("joint", "prune", True, task(20), [replace(task(50, "source0"), weight=0.5)], 32)
    own, other = phase.streams
    assert (other.head, other.label_weight, own.label_weight) == ("source0", 0.5, 1.0)
    assert (own.masks, other.masks) == ("shared", "shared")


def test_tied_sources_have_masks_of_their_own_only_while_pruning() -> None:
    uses = {
        stage: phases("tied", stage, True, task(20), [task(50, "source0")], 32)[0].streams[1].masks
        for stage in ("teach", "prune", "recover")
    }
    assert uses == {"teach": "shared", "prune": "own", "recover": "shared"}


def test_sources_that_share_weights_alone_do_not_move_the_masks() -> None:
    for coupling in ("joint", "teacher", "sequential"):
        plan = phases(coupling, "prune", True, task(20, taught=True), [task(50, taught=True)], 32, ["weights"])
        assert {s.masks for phase in plan for s in phase.streams if len(s.rows) == 50} == {"fixed"}
        assert {s.masks for phase in plan for s in phase.streams if len(s.rows) == 20} == {"shared"}


def test_draws_use_every_row_once_an_epoch() -> None:
    rows = task(64).rows
    taken = [i for index in draw([(rows, 8)], 16, seed=0) for i in index[0]]
    assert sorted(taken) == sorted([*range(64)] * 2)
    assert taken != [i for index in draw([(rows, 8)], 16, seed=1) for i in index[0]]
    assert taken == [i for index in draw([(rows, 8)], 16, seed=0) for i in index[0]]


def test_batches_hold_rows_of_similar_length() -> None:
    """Little padding: less than half of what random batches carry."""
    rows = task(512).rows
    lengths = rows.lengths

    def padding(batches: list[list[int]]) -> int:
        return sum(int(lengths[i].max() * len(i) - lengths[i].sum()) for i in batches)

    bucketed = padding([index[0] for index in draw([(rows, 32)], 16, seed=0)])
    at_random = padding(torch.randperm(512, generator=torch.Generator().manual_seed(0)).split(32))  # type: ignore[arg-type]
    assert bucketed < at_random / 2
