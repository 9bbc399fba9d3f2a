"""Norms against the weights of one unit at a time; rankings of their own for heads and neurons."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.domains.cost import Cost
from core.domains.fit import fit
from core.domains.structure import Structure
from core.domains.transformer.cut import cut
from core.domains.transformer.magnitude import norms
from core.domains.transformer.network import TransformerNetwork
from core.pruning.scoring.fitter import Fitter
from core.pruning.scoring.magnitude import magnitude, ranks
from tests.builders import by_layer


def weights_of(network: TransformerNetwork, layer: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """All weights and biases of each head and each neuron of a BERT layer, by hand."""
    bert = network.body.bert.encoder.layer[layer]
    attention, size = bert.attention.self, network.architecture.head_size
    heads = []
    for head in range(network.architecture.heads):
        rows = slice(head * size, (head + 1) * size)
        parts = [getattr(linear, part)[rows] for linear in (attention.query, attention.key, attention.value)
                 for part in ("weight", "bias")]  # fmt: skip
        heads.append(torch.cat([part.flatten() for part in [*parts, bert.attention.output.dense.weight[:, rows]]]))
    into, out = bert.intermediate.dense, bert.output.dense
    neurons = [torch.cat([into.weight[i], into.bias[i : i + 1], out.weight[:, i]]) for i in range(128)]
    return heads, neurons


def test_a_norm_is_the_root_mean_square_of_a_units_own_weights(network: TransformerNetwork, cost: Cost) -> None:
    layers = [weights_of(network, layer) for layer in range(network.architecture.layers)]
    units = [*(heads for heads, _ in layers), *(neurons for _, neurons in layers)]
    for wanted, found, price in zip(units, norms(network), cost.unit, strict=True):
        assert {len(unit) for unit in wanted} == {price}  # it is what the unit costs
        torch.testing.assert_close(found, torch.stack([unit.square().mean().sqrt() for unit in wanted]))


def test_a_cut_network_has_the_norms_of_what_it_kept(network: TransformerNetwork) -> None:
    before = norms(network)
    kept = Structure.of([[1], [], range(4)], [[3, 5], range(128), []])
    cut(network, kept)
    for dense, smaller, units in zip(before, norms(network), kept.kept, strict=True):
        torch.testing.assert_close(smaller, dense[list(units)])


def test_the_smallest_go_first_and_heads_and_neurons_in_like_shares(network: TransformerNetwork, cost: Cost) -> None:
    with torch.no_grad():
        first, second = network.body.bert.encoder.layer[:2]
        for linear in (second.output.dense, second.intermediate.dense):
            linear.weight.mul_(0.01)  # a whole layer on another scale
        first.output.dense.weight[:, 7:9] *= 0.1
        first.intermediate.dense.weight[7:9] *= 0.1
    scores = magnitude(network, Fitter(cost, 0))
    assert set(np.argsort(by_layer(network.architecture, scores.units)[1][0])[:2].tolist()) == {7, 8}
    structure = fit(scores, cost, cost.dense // 2)
    heads, neurons = (sum(map(len, rows)) for rows in (structure.heads, structure.neurons))
    assert heads / 12 == pytest.approx(0.5, abs=0.1) and neurons / 384 == pytest.approx(0.5, abs=0.1)
    assert all(len(row) > 20 for row in structure.neurons)


def test_a_unit_of_zeros_is_the_smallest_and_its_gradient_is_no_nan(network: TransformerNetwork) -> None:
    layer = network.body.bert.encoder.layer[0]
    with torch.no_grad():
        into, out = layer.intermediate.dense, layer.output.dense
        for part in (into.weight[3], into.bias[3], out.weight[:, 3]):
            part.zero_()
    sizes = norms(network)[3]
    assert int(sizes.argmin()) == 3
    (gradient,) = torch.autograd.grad(sizes.sum(), layer.intermediate.dense.weight)
    assert gradient.isfinite().all()


def test_ranks_keep_the_order_and_fill_the_interval() -> None:
    assert ranks(np.array([[3.0, -1.0], [7.0, 3.5]])).tolist() == [[0.375, 0.125], [0.875, 0.625]]
