"""The budget is met: never over, within 1 % below, the same for the same scores."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from core.pruning.fit import SLACK, Scores, fit
from core.spec.budget import Budget
from core.spec.cost import CostModel, Costs
from core.spec.families import FAMILIES, Architecture
from core.spec.problems import SpecError
from core.spec.structure import Structure
from tests.draws import draws

MINILM = Architecture(FAMILIES["bert"], layers=6, heads=12, head_size=32, hidden=384, neurons=1536)
BERT_BASE = Architecture(FAMILIES["bert"], layers=12, heads=12, head_size=64, hidden=768, neurons=3072)


def costs_of(a: Architecture) -> Costs:
    """From the shapes of such a BERT."""
    h, inner = a.hidden, a.heads * a.head_size
    layer = {
        **{f"attention.self.{name}": (inner, h) for name in ("query", "key", "value")},
        "attention.output.dense": (h, inner),
        "intermediate.dense": (a.neurons, h),
        "output.dense": (h, a.neurons),
    }
    shapes: dict[str, tuple[int, ...]] = {"bert.embeddings.word_embeddings.weight": (30000, h)}
    for i in range(a.layers):
        root = f"bert.encoder.layer.{i}"
        for path, shape in layer.items():
            shapes |= {f"{root}.{path}.weight": shape, f"{root}.{path}.bias": shape[:1]}
        for path in ("attention.output", "output"):
            shapes |= {f"{root}.{path}.LayerNorm.{part}": (h,) for part in ("weight", "bias")}
    shapes |= {"classifier.weight": (2, h), "classifier.bias": (2,)}
    return Costs.from_shapes(a, shapes, length=128)


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
    cost: CostModel = getattr(costs_of(architecture), kind)
    limit = int(share * cost.dense)
    structure = fit(Scores(heads, neurons), cost, limit)
    met = cost.encoder(structure)
    assert met <= limit
    assert met >= (1 - SLACK) * limit
    assert structure == fit(Scores(heads, neurons), cost, limit)


def test_known_count_of_bert_base() -> None:
    """As published code counts them."""
    assert costs_of(BERT_BASE).params.dense == 85_054_464
    assert costs_of(BERT_BASE).macs.dense == 11_173_625_856  # 11.174 G at 128 tokens


def test_better_scores_are_kept() -> None:
    cost = costs_of(MINILM).params
    scores = Scores(np.zeros((6, 12)), np.zeros((6, 1536)))
    scores.heads[2, 5] = 2.0
    scores.neurons[4, 100:200] = 1.0
    limit = cost.encoder_fixed + cost.head + cost.attention_block + 100 * cost.neuron + cost.ffn_block
    structure = fit(scores, cost, limit)
    assert structure.heads[2] == (5,) and sum(map(len, structure.heads)) == 1
    assert structure.neurons[4] == tuple(range(100, 200)) and sum(map(len, structure.neurons)) == 100


def test_the_lowest_neurons_make_room_for_a_head() -> None:
    cost = costs_of(MINILM).params
    scores = Scores(np.random.default_rng(0).random((6, 12)), np.full((6, 1536), -np.inf))
    scores.neurons[:, :60] = 10.0 + np.arange(6)[::-1, None]  # as `l0` leaves it on the way; the first layer is best
    for limit in range(int(0.04 * cost.dense), int(0.1 * cost.dense), 10_000):
        kept = [len(row) for row in fit(scores, cost, limit).neurons]
        assert kept == sorted(kept, reverse=True)
        assert sum(count not in (1, 60) for count in kept) <= 1  # one layer gave before the next one did


def test_a_unit_that_is_gone_stays_gone() -> None:
    cost = costs_of(MINILM).params
    scores = Scores(np.full((6, 12), -np.inf), np.zeros((6, 1536)))
    structure = fit(scores, cost, cost.dense)
    assert not any(structure.heads) and all(len(row) == 1536 for row in structure.neurons)


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
        costs_of(MINILM).limit(Budget.model_validate(budget))
    assert caught.value.field == f"/budget/{next(iter(budget))}"


@pytest.mark.parametrize("kind", ["params", "macs", "bytes"])
def test_the_ends_of_the_range_are_in_reach(kind: str) -> None:
    costs = costs_of(MINILM)
    cost: CostModel = getattr(costs, kind)
    outside = 0 if kind == "params" else cost.outside
    scores = Scores(np.zeros((6, 12)), np.ones((6, 1536)))
    for lowest in (cost.smallest, cost.dense):
        same, limit = costs.limit(Budget.model_validate({kind: lowest + outside}))
        assert same is cost and limit == lowest
        assert cost.encoder(fit(scores, cost, limit)) == lowest
    with pytest.raises(SpecError):
        costs.limit(Budget.model_validate({kind: cost.smallest + outside - 1}))


def test_model_budget_counts_embeddings() -> None:
    costs = costs_of(MINILM)
    dense = costs.params.model(Structure.dense(MINILM.anatomy))
    cost, limit = costs.limit(Budget(params=0.8, of="model"))
    assert limit + cost.outside == int(0.8 * dense)
