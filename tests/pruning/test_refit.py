"""Least squares after the cut: nothing to mend where nothing is missing, and a stand-in takes over what it can."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from core.domains.network import TARGET
from core.domains.structure import Structure
from core.domains.transformer.cut import cut
from core.domains.transformer.network import TransformerNetwork
from core.domains.transformer.parts import projections
from core.pruning.scoring import refit as module
from core.pruning.scoring.refit import refit
from core.pruning.training.coupling import Phase
from core.pruning.training.predict import predict
from tests.tiny import stream

ALL = range(4)


def test_a_model_that_lost_nothing_stays_as_it_is(network: TransformerNetwork, tiny: Path) -> None:
    student = copy.deepcopy(network)
    refit(student, network, [Phase((stream(tiny, 16, seed=0),))], 0, Structure.dense(network.architecture.anatomy))
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(parameter, network.get_parameter(name), rtol=0, atol=1e-4)


def test_a_twin_takes_over_what_its_dropped_twin_did(
    network: TransformerNetwork, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RIDGE", 1e-9)
    layer = network.body.bert.encoder.layer[1]
    with torch.no_grad():
        for linear in (layer.intermediate.dense,):
            linear.weight[5], linear.bias[5] = linear.weight[3], linear.bias[3]
        size = network.architecture.head_size
        for linear in (layer.attention.self.query, layer.attention.self.key, layer.attention.self.value):
            linear.weight[:size], linear.bias[:size] = linear.weight[size : 2 * size], linear.bias[size : 2 * size]
    rows = stream(tiny, 64, seed=0)
    student = copy.deepcopy(network)
    structure = Structure.of([ALL, [1, 2, 3], ALL], [range(128), [i for i in range(128) if i != 5], range(128)])
    cut(student, structure)
    wanted, plain = predict(network, rows.rows), predict(student, rows.rows)
    refit(student, network, [Phase((rows,))], 0, structure)
    assert (plain - wanted).abs().max() > 0.01
    torch.testing.assert_close(predict(student, rows.rows), wanted, rtol=0, atol=2e-3)


@pytest.mark.parametrize("hidden", [None, range(4, 64)])
def test_a_cut_model_comes_nearer_to_the_dense_one_on_other_rows(
    network: TransformerNetwork, tiny: Path, hidden: range | None
) -> None:
    student = copy.deepcopy(network)
    structure = Structure.of([[0, 1, 3], [], [1, 2, 3]], [range(100), range(90), range(90)], hidden=hidden)
    cut(student, structure)
    assert [name.split(".", 1)[0] for name in projections(student)] == ["0", "0", "1", "2", "2"]
    others = stream(tiny, 64, seed=9).rows
    wanted, before = predict(network, others), predict(student, others)
    refit(student, network, [Phase((stream(tiny, 64, seed=0),))], 0, structure)
    assert (predict(student, others) - wanted).square().mean() < (before - wanted).square().mean()


def test_the_head_reads_what_is_left_where_whole_layers_are_gone(network: TransformerNetwork, tiny: Path) -> None:
    """Nothing is left to solve for but the head's Linear."""
    with torch.no_grad():  # answers that differ from row to row
        network.heads[TARGET].weight.mul_(20)
    student = copy.deepcopy(network)
    structure = Structure.of([[], [], []], [[], [], []])
    cut(student, structure)
    rows, others = stream(tiny, 64, seed=0), stream(tiny, 64, seed=9).rows
    wanted, before = predict(network, others), predict(student, others)
    refit(student, network, [Phase((rows,))], 0, structure)
    after = predict(student, others)
    assert (after - wanted).square().mean() < (before - wanted).square().mean() / 2


def test_a_layer_answers_for_its_own_where_others_are_dropped(network: TransformerNetwork, tiny: Path) -> None:
    student = copy.deepcopy(network)
    structure = Structure.of([ALL, [], ALL], [range(128), [], range(128)], dropped=[1])
    cut(student, structure)
    assert [name.split(".", 1)[0] for name in projections(student, dropped=[1])] == ["0", "0", "2", "2"]
    rows = stream(tiny, 64, seed=0)
    refit(student, network, [Phase((rows,))], 0, structure)
    before, after = projections(network), projections(student, dropped=[1])
    for name in (name for name in after if name.startswith("0.")):  # below what is dropped nothing is missing
        torch.testing.assert_close(after[name].weight, before[name].weight, rtol=0, atol=1e-4)
    assert all(after[name].weight.ne(before[name].weight).any() for name in after if name.startswith("2."))
