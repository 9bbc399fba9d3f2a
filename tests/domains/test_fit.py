"""The budget is met: never over, within 1 % below, the same for the same scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from core.domains.anatomy import Anatomy, Block
from core.domains.cost import Additive, Cost
from core.domains.fit import SLACK, Scores, fit, stays_exact
from core.domains.structure import Structure
from core.domains.transformer.families import Architecture
from core.spec.budget import Budget
from core.spec.errors import SpecError
from tests.builders import BERT_BASE, MINILM, bert_costs, cost_of, scores_of
from tests.draws import draws


@draws(60)
@given(
    kind=st.sampled_from(["params", "macs", "bytes"]),
    architecture=st.sampled_from([MINILM, BERT_BASE]),
    share=st.floats(0.02, 1.0),
    seed=st.integers(0, 2**32 - 1),
    head_bias=st.floats(-3, 3),
    quantised=st.booleans(),
)
def test_budget_is_met_exactly(
    kind: str, architecture: Architecture, share: float, seed: int, head_bias: float, quantised: bool
) -> None:
    rng = np.random.default_rng(seed)
    heads = rng.normal(size=(architecture.layers, architecture.heads)) + head_bias
    neurons = rng.normal(size=(architecture.layers, architecture.neurons))
    if quantised:  # many ties
        heads, neurons = heads.round(), neurons.round()
    cost: Cost = getattr(bert_costs(architecture), kind)
    limit = int(share * cost.dense)
    structure = fit(scores_of(heads, neurons), cost, limit)
    met = cost.of(structure)
    assert met <= limit
    assert met >= (1 - SLACK) * limit
    assert structure == fit(scores_of(heads, neurons), cost, limit)


def test_known_count_of_bert_base() -> None:
    """As published code counts them."""
    assert bert_costs(BERT_BASE).params.dense == 85_054_464
    assert bert_costs(BERT_BASE).macs.dense == 11_173_625_856  # 11.174 G at 128 tokens


def test_better_scores_are_kept() -> None:
    cost = bert_costs(MINILM).params
    heads, neurons = np.zeros((6, 12)), np.zeros((6, 1536))
    heads[2, 5] = 2.0
    neurons[4, 100:200] = 1.0
    kept = Structure.of([[]] * 2 + [[5]] + [[]] * 3, [[]] * 4 + [range(100, 200), []])
    structure = fit(scores_of(heads, neurons), cost, cost.of(kept))
    assert structure.heads[2] == (5,) and sum(map(len, structure.heads)) == 1
    assert structure.neurons[4] == tuple(range(100, 200)) and sum(map(len, structure.neurons)) == 100


def test_the_lowest_neurons_make_room_for_a_head() -> None:
    cost = bert_costs(MINILM).params
    neurons = np.full((6, 1536), -np.inf)
    neurons[:, :60] = 10.0 + np.arange(6)[::-1, None]  # as `l0` leaves it on the way; the first layer is best
    scores = scores_of(np.random.default_rng(0).random((6, 12)), neurons)
    for limit in range(int(0.04 * cost.dense), int(0.1 * cost.dense), 10_000):
        kept = [len(row) for row in fit(scores, cost, limit).neurons]
        assert kept == sorted(kept, reverse=True)
        assert sum(count not in (1, 60) for count in kept) <= 1  # one layer gave before the next one did


def test_a_unit_that_is_gone_stays_gone() -> None:
    cost = bert_costs(MINILM).params
    scores = scores_of(np.full((6, 12), -np.inf), np.zeros((6, 1536)))
    structure = fit(scores, cost, cost.dense)
    assert not any(structure.heads) and all(len(row) == 1536 for row in structure.neurons)


@draws(60)
@given(share=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_blocks_of_any_size_and_price(share: float, seed: int) -> None:
    """As of a model that was pruned already, on a machine that likes some layers better."""
    rng = np.random.default_rng(seed)
    kinds = [("a", int(n)) for n in rng.integers(0, 5, 4)] + [("b", int(n)) for n in rng.integers(100, 300, 4)]
    anatomy = Anatomy(tuple(Block(f"{i}", kind, size) for i, (kind, size) in enumerate(kinds)))
    unit = (*rng.integers(400, 600, 4).tolist(), *rng.integers(4, 8, 4).tolist())
    cost = Additive(anatomy, unit, tuple(rng.integers(0, 20, 8).tolist()), (9,), outside=100)
    limit = int(cost.smallest + share * (cost.dense - cost.smallest))
    scores = Scores(rng.normal(size=anatomy.size))
    structure = fit(scores, cost, limit)
    assert limit >= cost.of(structure) >= limit - max(SLACK * limit, 28)
    assert all(set(row) <= set(range(block.size)) for row, block in zip(structure.kept, anatomy.blocks, strict=True))


MEAN = replace(MINILM, family=replace(MINILM.family, reads_one=False))


@draws(80)
@given(
    kind=st.sampled_from(["params", "macs", "bytes"]),
    share=st.floats(0, 0.3),
    seed=st.integers(0, 2**32 - 1),
    head_bias=st.floats(-9, 0),
)
def test_what_reads_one_position_keeps_its_best_head_within_the_limit(
    kind: str, share: float, seed: int, head_bias: float
) -> None:
    rng = np.random.default_rng(seed)
    heads, neurons = rng.normal(size=(6, 12)) + head_bias, rng.normal(size=(6, 1536))
    cost: Cost = getattr(bert_costs(MINILM), kind)
    limit = int(cost.smallest + share * (cost.dense - cost.smallest))
    structure = fit(scores_of(heads, neurons), cost, limit)
    layer, head = divmod(int(heads.argmax()), 12)
    assert head in structure.heads[layer]
    assert limit >= cost.of(structure) > limit - max(SLACK * limit, cost.marginal(6, 0))
    free = fit(scores_of(heads, neurons), getattr(bert_costs(MEAN), kind), limit)
    assert structure == free or not any(free.heads)


def test_the_smallest_that_reads_one_position_is_a_head_and_any_other_a_neuron() -> None:
    one, mean = bert_costs(MINILM).params, bert_costs(MEAN).params
    assert one.smallest == sum(one.fixed) + one.marginal(0, 0) > mean.smallest == sum(one.fixed) + one.marginal(6, 0)
    gone = MINILM.left({"heads": [[]] * 6, "neurons": [9] * 6})  # by an earlier version: then nothing can stay
    assert bert_costs(gone).params.smallest == bert_costs(replace(gone, family=MEAN.family)).params.smallest


@draws(60)
@given(share=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_a_head_stays_of_blocks_of_any_size_and_price(share: float, seed: int) -> None:
    """The best may be one that there is no room for."""
    rng = np.random.default_rng(seed)
    kinds = [("a", int(n)) for n in rng.integers(0, 5, 4)] + [("b", int(n)) for n in rng.integers(100, 300, 4)]
    anatomy = Anatomy(tuple(Block(f"{i}", kind, size) for i, (kind, size) in enumerate(kinds)), stays="a")
    unit = (*rng.integers(40, 900, 4).tolist(), *rng.integers(4, 8, 4).tolist())
    cost = Additive(anatomy, unit, tuple(rng.integers(0, 20, 8).tolist()), (9,), outside=100, measured=bool(seed % 2))
    limit = int(cost.smallest + share * (cost.dense - cost.smallest))
    units = rng.normal(size=anatomy.size)
    units[: anatomy.spans[4].start] -= 9
    structure = fit(Scores(units), cost, limit)
    assert cost.of(structure) <= limit
    assert any(structure.kept[:4]) or not any(size for _, size in kinds[:4])


def test_a_network_that_is_cut_on_the_way_keeps_neurons_for_the_last_fit() -> None:
    cost = cost_of(MINILM, head=100, attention=0, neuron=7, ffn=0)
    few = Structure.of([range(12)] * 6, [range(5)] * 5 + [range(8)])  # 2 * 100 // 7 + 6 - 1
    assert not stays_exact(few, cost)
    assert stays_exact(replace(few, kept=(*few.kept[:-1], tuple(range(9)))), cost)


@pytest.mark.parametrize(
    ("budget", "unit"),
    [
        ({"params": 0.0005}, "parameters"),
        ({"params": 500}, "parameters"),
        ({"params": 0.4, "of": "model"}, "parameters .*; most of the rest is embeddings"),
        ({"macs": 9}, "multiply-accumulates at 128 tokens"),
        ({"bytes": 0.2}, "bytes of weights .*; most of the rest is embeddings"),
    ],
)
def test_budget_out_of_reach_names_the_range(budget: dict[str, Any], unit: str) -> None:
    with pytest.raises(SpecError, match=rf"out of reach: .* can have [\d,]+ to [\d,]+ {unit}") as caught:
        bert_costs(MINILM).limit(Budget.model_validate(budget))
    assert caught.value.field == f"/budget/{next(iter(budget))}"


@pytest.mark.parametrize("kind", ["params", "macs", "bytes"])
def test_the_ends_of_the_range_are_in_reach(kind: str) -> None:
    costs = bert_costs(MINILM)
    cost: Cost = getattr(costs, kind)
    outside = 0 if kind == "params" else cost.outside
    scores = scores_of(np.zeros((6, 12)), np.ones((6, 1536)))
    for lowest in (cost.smallest, cost.dense):
        same, limit = costs.limit(Budget.model_validate({kind: lowest + outside}))
        assert same is cost and limit == lowest
        assert cost.of(fit(scores, cost, limit)) == lowest
    with pytest.raises(SpecError):
        costs.limit(Budget.model_validate({kind: cost.smallest + outside - 1}))


def test_model_budget_counts_embeddings() -> None:
    costs = bert_costs(MINILM)
    dense = costs.params.model(Structure.dense(MINILM.anatomy))
    cost, limit = costs.limit(Budget(params=0.8, of="model"))
    assert limit + cost.outside == int(0.8 * dense)
