"""masked == cut, and cost == what is counted, for any structure."""

from __future__ import annotations

import copy

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given
from safetensors.torch import save
from torch.utils.flop_counter import FlopCounterMode

from core.domains.cost import Cost
from core.domains.gates import Gates
from core.domains.network import TARGET
from core.domains.structure import Structure
from core.domains.transformer.cut import cut
from core.domains.transformer.gates import gated
from core.domains.transformer.network import TransformerNetwork
from core.pruning.training import losses
from core.pruning.training.batches import Rows
from core.pruning.training.coupling import Stream
from core.pruning.training.predict import predict
from core.pruning.training.train import batch_loss, optimizer_for
from core.tasks.classes import SingleLabel
from tests.draws import draws
from tests.pruning.conftest import IDS, costs_of

LAYERS, HEADS, NEURONS = 3, 4, 128


def structures() -> st.SearchStrategy[Structure]:
    """Any kept units, whole blocks gone now and then."""
    heads = st.lists(st.sets(st.integers(0, HEADS - 1)), min_size=LAYERS, max_size=LAYERS)
    neurons = st.lists(
        st.one_of(st.just(set()), st.sets(st.integers(0, NEURONS - 1))), min_size=LAYERS, max_size=LAYERS
    )
    return st.builds(Structure.of, heads, neurons)


def inputs() -> dict[str, torch.Tensor]:
    """Two rows, one padded."""
    ids = torch.randint(5, 61, (2, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@draws(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(structure=structures())
def test_masked_equals_cut(network: TransformerNetwork, structure: Structure) -> None:
    dense = Structure.dense(network.architecture.anatomy)
    smaller = copy.deepcopy(network)
    cut(smaller, structure)
    with torch.inference_mode():
        with gated(network, Gates.of(structure, dense.anatomy), dense):
            masked = network.logits(inputs())
        torch.testing.assert_close(smaller.logits(inputs()), masked, atol=1e-5, rtol=0)


@draws(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(structure=structures())
def test_costs_equal_what_the_cut_model_has(network: TransformerNetwork, structure: Structure) -> None:
    costs = costs_of(network, length=inputs()["input_ids"].shape[1])
    smaller = copy.deepcopy(network)
    cut(smaller, structure)
    encoder, whole = smaller.body.get_submodule("bert.encoder.layer"), smaller.assembled()
    assert costs.params.of(structure) == sum(p.numel() for p in encoder.parameters())
    assert costs.params.model(structure) == sum(p.numel() for p in whole.parameters())
    weights = len(save(whole.state_dict(), metadata={"format": "pt"}))
    assert weights <= costs.bytes.model(structure) <= weights + 150 * len(network.assembled().state_dict())  # a header
    whole.set_attn_implementation("eager")  # what else there is, the counter does not see
    one = {name: column[:1] for name, column in inputs().items() if name == "input_ids"}
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        whole(**one)
    assert 2 * costs.macs.model(structure) == counter.get_total_flops()


def test_the_dense_file_is_counted_to_the_byte(network: TransformerNetwork) -> None:
    weights = network.assembled().state_dict()
    costs = costs_of(network)
    dense = Structure.dense(network.architecture.anatomy)
    assert costs.bytes.model(dense) == len(save(weights, metadata={"format": "pt"}))


@draws(20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(outer=structures(), inner=structures())
def test_cutting_twice_equals_cutting_once(network: TransformerNetwork, outer: Structure, inner: Structure) -> None:
    both = Structure.of(
        (set(a) & set(b) for a, b in zip(outer.heads, inner.heads, strict=True)),
        (set(a) & set(b) for a, b in zip(outer.neurons, inner.neurons, strict=True)),
    )
    once, twice = copy.deepcopy(network), copy.deepcopy(network)
    cut(once, both)
    cut(twice, outer)
    cut(twice, both.within(outer))
    with torch.inference_mode():
        torch.testing.assert_close(twice.logits(inputs()), once.logits(inputs()), atol=1e-6, rtol=0)


def test_a_block_without_units_adds_nothing(network: TransformerNetwork) -> None:
    """Not even its bias: the residual connection and LayerNorm are all that is left."""
    nothing = Structure.of([[]] * LAYERS, [[]] * LAYERS)
    cut(network, nothing)
    names = [name for name, _ in network.body.bert.encoder.named_parameters()]
    assert names and all("LayerNorm" in name for name in names)


def test_a_dense_cut_changes_nothing(network: TransformerNetwork) -> None:
    with torch.inference_mode():
        before = network.logits(inputs())
        cut(network, Structure.dense(network.architecture.anatomy))
        assert torch.equal(network.logits(inputs()), before)


def test_optimizer_moments_follow_the_cut(network: TransformerNetwork) -> None:
    """After a cut, the moments of the kept units are those they had, and training goes on."""
    network.train()
    optimizer = optimizer_for(network, 1e-3)
    network.logits(inputs()).square().sum().backward()
    optimizer.step()
    weight = network.body.get_parameter("bert.encoder.layer.0.intermediate.dense.weight")
    moment = optimizer.state[weight]["exp_avg"][[3, 5]].clone()
    cut(network, Structure.of([[0, 2], [1], []], [[3, 5], [], range(7)]), optimizer)
    weight = network.body.get_parameter("bert.encoder.layer.0.intermediate.dense.weight")
    assert torch.equal(optimizer.state[weight]["exp_avg"], moment)
    optimizer.zero_grad()
    network.logits(inputs()).square().sum().backward()
    optimizer.step()
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in network.parameters() if p.requires_grad}
    assert set(map(id, optimizer.state)) <= held


def test_soft_gates_reach_every_unit(network: TransformerNetwork, cost: Cost) -> None:
    """Every gate has a gradient: nothing is masked where it does not act."""
    dense = Structure.dense(network.architecture.anatomy)
    gates = Gates.of(dense, dense.anatomy).each(lambda ones: (0.5 * ones).requires_grad_())
    with gated(network, gates, dense):
        network.logits(inputs()).square().sum().backward()
    for gate in (gates.units, gates.blocks):
        assert gate.grad is not None and (gate.grad != 0).all()


def test_batches_of_several_streams_equal_each_stream_alone(network: TransformerNetwork, tiny: object) -> None:
    """One padded forward pass for two streams gives the losses that each stream alone gives, weighted by rows."""
    rows = [_rows([[2, 7, 3], [2, 9, 9, 9, 3]]), _rows([[2, 8, 8, 8, 8, 8, 8, 3]])]
    streams = [Stream(r, len(r), TARGET, 1.0, 0.0) for r in rows]
    together = batch_loss(network, streams, [[0, 1], [0]])
    alone = [batch_loss(network, [s], [list(range(len(s.rows)))]) for s in streams]
    torch.testing.assert_close(together, alone[0] * 2 / 3 + alone[1] / 3, atol=2e-2, rtol=0)


def test_streams_of_very_different_lengths_are_not_padded_to_one(
    network: TransformerNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apart they cost less, and loss and gradients are those of one batch."""
    monkeypatch.setattr("core.pruning.training.predict.low_precision", lambda: False)  # rounding would hide a fault
    rows = [_rows([[2, 7, 3], [2, 9, 9, 3]]), _rows([[2, *[8] * 14, 3], [2, *[9] * 12, 3]])]
    streams = [Stream(r, len(r), TARGET, 1.0, 0.0) for r in rows]
    shapes: list[tuple[int, ...]] = []
    hook = network.body.register_forward_pre_hook(
        lambda _module, _args, inputs: shapes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    found = []
    for tokens in (23, 24):  # spared: 4 * 16 - 2 * 4 - 2 * 16
        monkeypatch.setattr(losses, "PASS", tokens)
        network.zero_grad()
        loss = batch_loss(network, streams, [[0, 1], [1, 0]])
        loss.backward()  # type: ignore[no-untyped-call]
        found.append([loss, *(p.grad for p in network.parameters() if p.grad is not None)])
    hook.remove()
    assert shapes == [(2, 4), (2, 16), (4, 16)]
    for apart, together in zip(*found, strict=True):
        torch.testing.assert_close(apart, together, atol=1e-5, rtol=1e-4)


def test_predict_does_not_depend_on_batching(network: TransformerNetwork) -> None:
    rows = _rows([[2, *range(6, 6 + n), 3] for n in range(1, 30)])
    torch.testing.assert_close(predict(network, rows, batch_size=1), predict(network, rows), atol=1e-5, rtol=0)


def _rows(ids: list[list[int]]) -> Rows:
    columns = {
        "input_ids": [torch.tensor(row) for row in ids],
        "attention_mask": [torch.ones(len(row), dtype=torch.long) for row in ids],
    }
    return Rows(columns, torch.arange(len(ids)) % 2, SingleLabel(), IDS)
