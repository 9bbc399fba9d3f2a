"""The budget is met: never over, within 1 % below, the same for the same scores."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from core.pruning.fit import SLACK, Scores, fit
from core.spec.cost import CostModel
from core.spec.families import FAMILIES, Architecture
from core.spec.job import Budget
from core.spec.problems import SpecError
from core.spec.structure import Structure

MINILM = Architecture(FAMILIES["bert"], layers=6, heads=12, head_size=32, hidden=384, neurons=1536)
BERT_BASE = Architecture(FAMILIES["bert"], layers=12, heads=12, head_size=64, hidden=768, neurons=3072)


def cost_of(a: Architecture) -> CostModel:
    """Written out from the published shapes, beside `CostModel.from_shapes`."""
    h = a.hidden
    return CostModel(
        a,
        head=3 * a.head_size * (h + 1) + a.head_size * h,
        attention_block=h,
        neuron=2 * h + 1,
        ffn_block=h,
        encoder_fixed=a.layers * 4 * h,
        outside=11_000_000,
    )


@settings(max_examples=60, deadline=None)
@given(
    architecture=st.sampled_from([MINILM, BERT_BASE]),
    share=st.floats(0.02, 1.0),
    seed=st.integers(0, 2**32 - 1),
    head_bias=st.floats(-3, 3),
    quantised=st.booleans(),
)
def test_budget_is_met_exactly(
    architecture: Architecture, share: float, seed: int, head_bias: float, quantised: bool
) -> None:
    rng = np.random.default_rng(seed)
    heads = rng.normal(size=(architecture.layers, architecture.heads)) + head_bias
    neurons = rng.normal(size=(architecture.layers, architecture.neurons))
    if quantised:  # many ties
        heads, neurons = heads.round(), neurons.round()
    cost = cost_of(architecture)
    limit = int(share * cost.encoder_params(Structure.dense(architecture)))
    structure = fit(Scores(heads, neurons), cost, limit)
    met = cost.encoder_params(structure)
    assert met <= limit
    assert met >= (1 - SLACK) * limit
    assert structure == fit(Scores(heads, neurons), cost, limit)


def test_known_count_of_bert_base() -> None:
    """85,054,464 parameters in the encoder of BERT-base, as published code counts them."""
    assert cost_of(BERT_BASE).encoder_params(Structure.dense(BERT_BASE)) == 85_054_464


def test_better_scores_are_kept() -> None:
    cost = cost_of(MINILM)
    scores = Scores(np.zeros((6, 12)), np.zeros((6, 1536)))
    scores.heads[2, 5] = 2.0
    scores.neurons[4, 100:200] = 1.0
    limit = cost.encoder_fixed + cost.head + cost.attention_block + 100 * cost.neuron + cost.ffn_block
    structure = fit(scores, cost, limit)
    assert structure.heads[2] == (5,) and sum(map(len, structure.heads)) == 1
    assert structure.neurons[4] == tuple(range(100, 200)) and sum(map(len, structure.neurons)) == 100


def test_a_unit_that_is_gone_stays_gone() -> None:
    cost = cost_of(MINILM)
    scores = Scores(np.full((6, 12), -np.inf), np.zeros((6, 1536)))
    structure = fit(scores, cost, cost.encoder_params(Structure.dense(MINILM)))
    assert not any(structure.heads) and all(len(row) == 1536 for row in structure.neurons)


@pytest.mark.parametrize(("params", "of"), [(0.0005, "encoder"), (500, "encoder"), (0.4, "model")])
def test_budget_out_of_reach_names_the_range(params: float, of: str) -> None:
    with pytest.raises(SpecError, match=r"out of reach: .* can have [\d,]+ to [\d,]+ parameters") as caught:
        cost_of(MINILM).encoder_limit(Budget.model_validate({"params": params, "of": of}))
    assert caught.value.field == "/budget/params"


def test_model_budget_counts_embeddings() -> None:
    cost = cost_of(MINILM)
    dense = cost.model_params(Structure.dense(MINILM))
    limit = cost.encoder_limit(Budget(params=0.6, of="model"))
    assert limit + cost.outside == int(0.6 * dense)
