"""Orders of channels: the optimum on small cases, never worse than others' on large ones."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from random import Random

import pytest
import torch

from core.domains.channels.cost import ChannelCosts
from core.domains.channels.cut import reads
from core.domains.channels.own_readers import cover
from core.domains.channels.own_readers.cover import covered
from core.domains.channels.own_readers.order import order, ordered, slices
from core.domains.channels.own_readers.pq_tree import every_order, frontier, restrict
from core.domains.channels.own_readers.readers import draw_own
from tests.domains.channels.test_own import own

Sets = list[frozenset[int]]


def drawn(rng: Random, things: int, sets: int) -> Sets:
    return [frozenset(rng.sample(range(things), rng.randint(1, things))) for _ in range(sets)]


def intervals(rng: Random, things: int, sets: int) -> Sets:
    """Sets that lie side by side in one order, which is not told."""
    hidden = rng.sample(range(things), things)
    ends = [sorted(rng.sample(range(things + 1), 2)) for _ in range(sets)]
    return [frozenset(hidden[a:b]) for a, b in ends]


def greedy(things: int, sets: Sets) -> list[int]:
    """What is published with UPSCALE, in our words: readers in a chain, each next to the one it shares the most with.

    What two neighbours of the chain share lies between what they have alone.
    """
    left, chain = [*dict.fromkeys(sets)], []
    while left:
        last = chain[-1] if chain else max(left, key=len)
        following = max(left, key=lambda one: len(one & last))
        left.remove(following)
        chain.append(following)
    found: list[int] = []
    for i, one in enumerate(chain):
        after = chain[i + 1] if i + 1 < len(chain) else frozenset()
        new = sorted(one - {*found})
        found += [thing for thing in new if thing not in after] + [thing for thing in new if thing in after]
    return found + [thing for thing in range(things) if thing not in found]


def test_the_optimum_on_a_thousand_small_cases() -> None:
    rng = Random(0)
    for _ in range(1000):
        things = rng.randint(2, 6)
        sets = drawn(rng, things, rng.randint(1, 6))
        found, counted = order(range(things), sets), Counter(sets)
        assert sorted(found) == [*range(things)]
        best = min(slices(one, counted)[0] for one in permutations(range(things)))
        assert slices(found, counted)[0] == best


def test_a_triangle_costs_one_copy() -> None:
    sets = [frozenset({0, 1}), frozenset({1, 2}), frozenset({0, 2})]
    assert slices(order(range(3), sets), Counter(sets)) == (1, 4)


@pytest.mark.parametrize(("things", "sets"), [(16, 5), (64, 12), (256, 8), (512, 40)])
def test_never_worse_than_as_it_is_or_the_published_greedy(things: int, sets: int) -> None:
    rng, better = Random(1), 0
    for case in range(6):
        of = drawn(rng, things, sets) if case % 2 else intervals(rng, things, sets - 2) + drawn(rng, things, 2)
        counted = Counter(of)
        copies = slices(order(range(things), of), counted)[0]
        others = [slices(one, counted)[0] for one in ([*range(things)], greedy(things, of))]
        assert copies <= min(others)
        better += copies < min(others)
    assert better


@pytest.mark.parametrize(("things", "sets"), [(8, 4), (40, 12), (300, 30)])
def test_where_one_order_serves_all_it_is_found(things: int, sets: int) -> None:
    rng = Random(2)
    for _ in range(20):
        of = intervals(rng, things, sets)
        found = order(range(things), of)
        assert slices(found, Counter(of))[0] == 0
        assert found == order(range(things), of)


def test_trees_hold_every_order_and_no_other() -> None:
    rng = Random(3)
    for _ in range(300):
        things = rng.randint(2, 6)
        sets = drawn(rng, things, rng.randint(1, 4))
        tree = every_order(range(things))
        for one in sets:
            tree = tree if tree is None else restrict(tree, one)  # type: ignore[assignment]
        able = [one for one in permutations(range(things)) if not slices(one, Counter(sets))[0]]
        assert (tree is not None) == bool(able)
        assert tree is None or tuple(frontier(tree)) in able


@pytest.mark.parametrize("name", ["dense", "mobilenet_v2", "ghost", "inception"])
def test_an_ordered_structure_keeps_and_reads_the_same_in_fewer_runs(name: str) -> None:
    _, graph, _ = own(name)
    before, after = 0, 0
    for seed in range(5):
        drawn = draw_own(graph, torch.Generator().manual_seed(seed))
        better = ordered(graph, drawn)
        assert ordered(graph, better) == better and [*map(set, better.kept)] == [*map(set, drawn.kept)]
        before += sum(len(runs) > 1 for runs in reads(graph, drawn).values())
        after += sum(len(runs) > 1 for runs in reads(graph, better).values())
    assert after < before


@pytest.mark.parametrize("name", ["dense", "mobilenet_v2"])
def test_a_small_gap_is_read_where_the_limit_has_room(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """To gather costs time; so do the channels between, which are read with their own weights."""
    _, graph, _ = own(name)
    cost, seen = ChannelCosts.of(graph).macs, 0
    assert cost.own is not None
    for seed in range(5):
        drawn = ordered(graph, draw_own(graph, torch.Generator().manual_seed(seed)))
        assert covered(graph, cost, cost.of(drawn), drawn) == drawn
        wide = covered(graph, cost, cost.dense, drawn)
        assert cost.of(wide) >= cost.of(drawn) and wide.kept == drawn.kept
        out, before = (cost.own.columns.left_out(one) for one in (wide, drawn))
        assert not (out & ~before).any()
        monkeypatch.setattr(cover, "GATHERED", 10**9)
        every = reads(graph, covered(graph, cost, cost.dense, drawn))
        monkeypatch.undo()
        assert all(len(runs) == 1 for runs in every.values())
        for path, runs in reads(graph, wide).items():
            gone = graph.weights[path].reader in dict(getattr(drawn, "left_out", ()))
            assert gone and (len(runs) > 1) <= (len(reads(graph, drawn)[path]) > 1)
        seen += cost.of(wide) > cost.of(drawn)
    assert seen


def test_what_is_read_stays_a_multiple() -> None:
    _, graph, _ = own("mobilenet_v2")
    cost = ChannelCosts.of(graph).macs
    drawn = ordered(graph, draw_own(graph, torch.Generator().manual_seed(0)))
    wide = covered(graph, cost, cost.dense, drawn, 8)
    before = reads(graph, drawn)
    for path, runs in reads(graph, wide).items():
        assert runs == before[path] or sum(count for _, count in runs) % 8 == 0
