"""The budget is met: never over, nothing more fits, the same for the same scores."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from core.domains.channels.cost import Bilinear, ChannelCosts
from core.domains.channels.fit import fit_channels
from core.domains.channels.graph import Graph
from core.domains.fit import Scores
from core.domains.structure import Structure
from tests.domains.channels.nets import traced
from tests.draws import draws

NETS = ["mobilenet_v2", "regnet_y", "dense", "shuffle"]


def cost_of(name: str, kind: str) -> Bilinear:
    """One kind of cost."""
    found: Bilinear = getattr(ChannelCosts.of(traced(name)[1]), kind)
    return found


def counts(structure: Structure) -> np.ndarray:
    """Units kept of each block."""
    return np.array([len(units) for units in structure.kept])


@draws(60)
@given(
    name=st.sampled_from(NETS),
    kind=st.sampled_from(["params", "macs", "bytes"]),
    share=st.floats(0, 1.0),
    seed=st.integers(0, 2**32 - 1),
    multiple=st.sampled_from([1, 4, 16]),
    quantised=st.booleans(),
)
def test_budget_is_met(name: str, kind: str, share: float, seed: int, multiple: int, quantised: bool) -> None:
    cost = cost_of(name, kind)
    values = np.random.default_rng(seed).normal(size=cost.anatomy.size)
    scores = Scores(values.round() if quantised else values)
    least = cost.least(multiple)
    limit = least + int(share * (cost.dense - least))
    structure = fit_channels(scores, cost, limit, multiple)
    assert cost.of(structure) <= limit
    assert structure == fit_channels(scores, cost, limit, multiple)
    kept, steps = counts(structure), cost.steps(multiple)
    for block, (count, step, size) in enumerate(zip(kept, steps, cost.sizes, strict=True)):
        assert count == size or (count and count % step == 0)
        if count < size:  # no step more would have fitted
            more = kept.copy()
            more[block] = min(count + step, size)
            assert cost.at(more) > limit
    for span, units in zip(cost.anatomy.spans, structure.kept, strict=True):
        left = np.delete(scores.units[span], list(units))
        assert not len(left) or left.max() <= scores.units[span][list(units)].min()


@pytest.mark.parametrize("name", NETS)
def test_marginal_prices_are_differences(name: str) -> None:
    cost = cost_of(name, "macs")
    kept = np.maximum(1, cost.sizes // 2)
    for block, price in enumerate(cost.marginal(kept)):
        more = kept.copy()
        more[block] += 1
        assert cost.at(more) - cost.at(kept) == price
    assert cost.shared == [float(price) for price in cost.marginal(cost.sizes - 1)]


def test_what_it_can_cost_at_all() -> None:
    cost = cost_of("mobilenet_v2", "macs")
    scores = Scores(np.arange(cost.anatomy.size, dtype=float))
    assert fit_channels(scores, cost, cost.dense) == Structure.dense(cost.anatomy)
    assert cost.of(fit_channels(scores, cost, cost.smallest)) == cost.smallest
    assert cost.of(fit_channels(scores, cost, 0, 16)) == cost.least(16) > cost.smallest
    assert cost.before == cost.model(Structure.dense(cost.anatomy))


def test_better_units_are_kept_and_those_that_are_gone_are_not() -> None:
    cost = cost_of("dense", "params")
    values = np.zeros(cost.anatomy.size)
    first, *_, last = cost.anatomy.spans
    values[first][3] = 5.0
    values[last][:4] = -np.inf
    structure = fit_channels(Scores(values), cost, (cost.smallest + cost.dense) // 2)
    assert 3 in structure.kept[0]
    assert not {0, 1, 2, 3} & {*structure.kept[-1]}


def test_groups_of_a_grouped_convolution_count_as_their_channels() -> None:
    graph: Graph = traced("regnet_y")[1]
    cost = ChannelCosts.of(graph).macs
    for block, channels, step in zip(graph.anatomy.blocks, cost.channels, cost.steps(16), strict=True):
        assert (block.kind == "groups") == (channels == 4)
        assert step * channels == 16
