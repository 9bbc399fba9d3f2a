"""A regular structure: what a plain config.json can say, never over the limit, and the best of its kind."""

from __future__ import annotations

from itertools import combinations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from core.domains.cost import Cost
from core.domains.fit import SLACK, Scores, fit, worth
from core.domains.structure import Structure
from core.domains.transformer.costs import least as least_of
from core.domains.transformer.families import FAMILIES, Architecture
from core.domains.transformer.fit_regular import compare, fit_regular
from core.pruning.scoring.fitter import Fitter
from core.spec.budget import Budget
from core.spec.errors import SpecError
from tests.builders import BERT_BASE, MINILM, bert_costs, by_layer, cost_of, scores_of
from tests.draws import draws

SMALL = Architecture(FAMILIES["bert"], layers=4, heads=2, head_size=4, hidden=8, neurons=12)


def drawn(architecture: Architecture, seed: int) -> Scores:
    """Random scores, some units gone."""
    rng = np.random.default_rng(seed)
    heads = rng.exponential(size=(architecture.layers, architecture.heads))
    neurons = rng.exponential(size=(architecture.layers, architecture.neurons))
    neurons[rng.random(neurons.shape) < 0.1] = -np.inf
    return scores_of(heads, neurons)


@draws(40)
@given(
    kind=st.sampled_from(["params", "macs", "bytes"]),
    architecture=st.sampled_from([MINILM, BERT_BASE]),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_regular_and_within_the_limit(kind: str, architecture: Architecture, share: float, seed: int) -> None:
    cost: Cost = getattr(bert_costs(architecture), kind)
    least = least_of(cost, "regular", architecture)
    limit = int(least + share * (cost.dense - least))
    structure = fit_regular(drawn(architecture, seed), cost, limit, architecture)
    left = structure.remaining()
    assert set(map(len, left.heads)) == {architecture.heads}
    assert len(set(map(len, left.neurons))) == 1 and left.neurons[0]
    step = len(left.heads) * cost.unit[-1]  # a neuron in every layer
    narrow = least + 100 * cost.unit[-1]  # a single layer of few neurons is met to within one of them
    assert (1 - SLACK) * limit - step * (limit < narrow) <= cost.of(structure) <= limit


@draws(40)
@given(share=st.floats(0.3, 1), seed=st.integers(0, 2**32 - 1))
def test_no_other_regular_structure_so_near_to_the_limit_is_worth_more(share: float, seed: int) -> None:
    """Against every choice of layers and width."""
    cost = bert_costs(SMALL).params
    limit = max(int(share * cost.dense), least_of(cost, "regular", SMALL))
    scores = drawn(SMALL, seed)
    found = fit_regular(scores, cost, limit, SMALL)
    order = np.argsort(-by_layer(SMALL, scores.units)[1], axis=1, kind="stable")
    every = [
        Structure.of([range(2)] * 4, order[:, :width].tolist(), dropped)
        for width in range(1, 13)
        for count in range(4)
        for dropped in combinations(range(4), count)
    ]
    near = [one for one in every if (1 - SLACK) * limit <= cost.of(one) <= limit]
    if near:
        assert worth(scores, cost, found) >= max(worth(scores, cost, one) for one in near) - 1e-12
        assert cost.of(found) >= (1 - SLACK) * limit
    else:
        assert cost.of(found) == max(met for one in every if (met := cost.of(one)) <= limit)


def test_the_smallest_regular_encoder_is_in_reach_and_nothing_below_it() -> None:
    costs = bert_costs(MINILM)
    least = least_of(costs.params, "regular", MINILM)
    fitter = Fitter.counted(costs, Budget(params=least), "regular")
    structure = fitter(drawn(MINILM, 0))
    assert fitter.cost.of(structure) == fitter.limit == least and len(structure.dropped) == 5
    assert fitter.beside == compare(*[drawn(MINILM, 0)] * 2, fitter.cost, least, MINILM)
    free, smaller = (Fitter.counted(costs, Budget(params=limit)) for limit in (least, least - 1))
    assert free(drawn(MINILM, 0)).dropped == () and free.beside == fitter.beside
    assert smaller(drawn(MINILM, 0)).dropped == () and smaller.beside is None
    with pytest.raises(SpecError, match=r'out of reach: .*; with "layout": "free" it can be smaller'):
        costs.limit(Budget(params=least - 1), "regular")


def test_heads_go_where_the_config_can_say_so() -> None:
    """Heads worth nothing leave room for neurons, in every layer alike."""
    free = Architecture(FAMILIES["llama"], layers=4, heads=2, head_size=4, hidden=8, neurons=12)
    cost = cost_of(free, head=128, attention=0, neuron=24, ffn=0, layer=16, outside=9)
    scores = scores_of(np.full((4, 2), 1e-3), np.ones((4, 12)))
    structure = fit_regular(scores, cost, cost.of(Structure.of([[0]] * 4, [range(12)] * 4)), free)
    assert structure == Structure.of([[0]] * 4, [range(12)] * 4)


def test_the_first_layer_stays_where_a_plain_config_builds_it_otherwise() -> None:
    modern = Architecture(FAMILIES["modernbert"], layers=4, heads=2, head_size=4, hidden=8, neurons=12)
    scores = scores_of(np.arange(8.0).reshape(4, 2), np.ones((4, 12)))
    for layers in (1, 2):
        cost = cost_of(modern, 128, 0, 24, 0, layer=16)
        limit = cost.of(Structure.of([range(2)] * 4, [range(12)] * 4, range(layers, 4)))
        structure = fit_regular(scores, cost, limit, modern)
        assert 0 not in structure.dropped


def test_the_report_sets_it_beside_the_free_structure() -> None:
    cost, scores = bert_costs(MINILM).params, drawn(MINILM, 1)
    limit = cost.dense // 4
    structure = fit_regular(scores, cost, limit, MINILM)
    found = compare(scores, scores, cost, limit, MINILM)
    assert found["free"]["worth"] == round(worth(scores, cost, fit(scores, cost, limit)), 4)
    assert 0 < found["regular"]["worth"] < found["free"]["worth"] < 1
    assert worth(scores, cost, Structure.dense(MINILM.anatomy)) == pytest.approx(1)
    assert found["regular"]["cost"] <= limit and found["regular"]["dropped"] == list(structure.dropped)
