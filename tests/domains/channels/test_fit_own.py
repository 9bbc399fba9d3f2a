"""Structures in which readers have their own channels: within the limit, and never worth less than the shared one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from core.domains.channels.cost import Bilinear, ChannelCosts
from core.domains.channels.fit import fit_channels
from core.domains.channels.graph import Graph
from core.domains.channels.own_readers.fit import fit_own, worths
from core.domains.fit import Scores
from core.domains.structure import ChannelStructure, Structure
from tests.domains.channels.test_own import own

NETS = ["dense", "inception", "ghost", "mobilenet_v2", "regnet_y", "resnet"]


def drawn(graph: Graph, cost: Bilinear, seed: int) -> Scores:
    """Columns of very different worth; that of a unit is theirs, for what it costs."""
    each = np.random.default_rng(seed).exponential(size=len(graph.columns.unit)) ** 3
    units = np.bincount(graph.columns.unit, each, cost.anatomy.size)
    return Scores(units / np.repeat(cost.shared, cost.sizes), columns=each)


def read(graph: Graph, structure: Structure) -> NDArray[np.bool_]:
    """Whether each column is read."""
    return np.asarray(graph.has(structure)[graph.columns.unit] & ~graph.columns.left_out(structure))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["macs", "params", "bytes"])
@pytest.mark.parametrize("multiple", [1, 4])
@pytest.mark.parametrize("name", NETS)
def test_never_worth_less_than_shared_at_equal_cost(name: str, multiple: int, kind: str) -> None:
    _, graph, _ = own(name)
    cost: Bilinear = getattr(ChannelCosts.of(graph), kind)
    better = 0
    for seed, part in enumerate((0.1, 0.3, 0.5, 0.7, 0.9)):
        scores = drawn(graph, cost, seed)
        low = cost.least(multiple)
        limit = low + int(part * (cost.dense - low))
        shared, found = (fit(scores, cost, limit, multiple) for fit in (fit_channels, fit_own))
        assert cost.of(found) <= limit and found == fit_own(scores, cost, limit, multiple)
        assert cost.own is not None
        worth, before = (worths(scores, cost, cost.own)[read(graph, one)].sum() for one in (found, shared))
        assert worth >= before and (worth > before or found == shared)
        better += worth > before
        each = np.bincount(graph.columns.reader[read(graph, found)], minlength=len(graph.columns.paths))
        assert (each + graph.columns.pinned).min() > 0 and all(found.kept)
    assert better


def test_a_channel_that_was_dropped_for_all_is_kept_for_some() -> None:
    """Each unit of a tensor is dear to one of its readers, and nothing to the others."""
    _, graph, _ = own("dense")
    cost = ChannelCosts.of(graph).macs
    columns = graph.columns
    each = np.where(columns.unit % len(columns.paths) == columns.reader, 1.0, 1e-3)
    units = np.bincount(columns.unit, each, cost.anatomy.size) / np.repeat(cost.shared, cost.sizes)
    limit = cost.dense // 6
    shared, found = (fit(Scores(units, columns=each), cost, limit) for fit in (fit_channels, fit_own))
    assert isinstance(found, ChannelStructure) and found.left_out
    assert (graph.has(found) & ~graph.has(shared)).any()
    assert each[read(graph, found)].sum() > 1.2 * each[read(graph, shared)].sum()


@pytest.mark.parametrize("name", ["mobilenet_v2", "regnet_y"])
def test_single_columns_fill_the_budget(name: str) -> None:
    _, graph, _ = own(name)
    cost = ChannelCosts.of(graph).macs
    for seed, part in enumerate((0.2, 0.5, 0.8)):
        limit = int(part * cost.dense)
        found = fit_own(drawn(graph, cost, seed), cost, limit)
        assert 0.99 * limit < cost.of(found) <= limit


def test_what_is_read_comes_in_multiples() -> None:
    _, graph, _ = own("mobilenet_v2")
    cost, columns, apart = ChannelCosts.of(graph).macs, graph.columns, 0
    group = columns.reader * len(cost.sizes) + graph.owner[columns.unit]
    for seed, part in enumerate((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)):
        found = fit_own(drawn(graph, cost, seed), cost, int(part * cost.dense), 8)
        assert isinstance(found, ChannelStructure)
        kept, taken = (
            np.bincount(group[part], columns.count[part], group.max() + 1)
            for part in (graph.has(found)[columns.unit], read(graph, found))
        )
        assert all(count % 8 == 0 or count == most for count, most in zip(taken, kept, strict=True))
        apart += len(found.left_out)
    assert apart


def test_the_worth_of_a_unit_is_that_of_its_columns() -> None:
    _, graph, _ = own("ghost")
    cost, unit = ChannelCosts.of(graph).macs, graph.columns.unit
    assert cost.own is not None
    scores = np.random.default_rng(0).random(cost.anatomy.size)
    parts = np.where(unit == 3, 0.0, 1.0 + np.arange(len(unit)))  # of one that nothing is known of, as they cost
    found = worths(Scores(scores, columns=parts), cost, cost.own)
    np.testing.assert_allclose(np.bincount(unit, found), scores * np.repeat(cost.shared, cost.sizes))
    for mine, said in ((unit == 2, parts), (unit == 3, cost.own.each(cost.sizes))):
        np.testing.assert_allclose(found[mine] / found[mine].sum(), said[mine] / said[mine].sum())


def test_without_worths_of_columns_it_is_the_shared_one() -> None:
    _, graph, _ = own("dense")
    cost = ChannelCosts.of(graph).macs
    scores = Scores(np.arange(cost.anatomy.size, dtype=float))
    assert fit_own(scores, cost, cost.dense // 2) == fit_channels(scores, cost, cost.dense // 2)
