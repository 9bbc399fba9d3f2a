"""BatchNorm after a cut: statistics anew, or matched to the dense network's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from core.domains.channels.cut import cut
from core.domains.channels.norms import match, norms, statistics
from core.domains.channels.tensorflow import as_torch_means
from core.domains.channels.tracing.trial import draw
from core.domains.structure import Structure
from tests.domains.channels.nets import answer, make, pictures, traced

BATCHES = [pictures(4), pictures(4)]


@pytest.mark.parametrize(("name", "dropped"), [("mobilenet_v1", 0.001), ("mobilenet_v2", 0.2)])
def test_what_tensorflow_keeps_is_not_dropped(name: str, dropped: float) -> None:
    model = make(name)
    momenta = [norm.momentum for norm in norms(model).values()]
    assert min(momentum or 0 for momentum in momenta) > 0.9
    as_torch_means(model)
    assert {norm.momentum for norm in norms(model).values()} == {0.1}
    assert model.dropout.p == pytest.approx(dropped)
    other = nn.Sequential(nn.BatchNorm2d(3, momentum=0.05), nn.Dropout(0.3))
    as_torch_means(other)
    assert other[0].momentum == 0.05 and other[1].p == 0.3  # type: ignore[union-attr]


def test_moments_of_batches_are_those_of_all() -> None:
    model = traced("squeeze")[0]
    parts = [{"pixel_values": part} for part in pictures(6)["pixel_values"].split([1, 2, 3])]
    whole, parted = statistics(model, [pictures(6)]), statistics(model, parts)
    for name, moments in whole.items():
        torch.testing.assert_close(parted[name].mean, moments.mean)
        torch.testing.assert_close(parted[name].variance, moments.variance)


def test_a_network_that_was_not_cut_is_matched_already() -> None:
    model, graph = traced("ghost")
    same = copy.deepcopy(model)
    match(same, BATCHES, statistics(model, BATCHES), graph, Structure.dense(graph.anatomy))
    torch.testing.assert_close(answer(same, pictures()), answer(model, pictures()))


@pytest.mark.parametrize("name", ["ghost", "squeeze", "mobilenet_v2"])
def test_matched_norms_give_what_the_dense_ones_gave(name: str) -> None:
    model, graph = traced(name)
    structure = draw(graph, torch.Generator().manual_seed(1))
    small = copy.deepcopy(model)
    cut(small, graph, structure)
    before = statistics(model, [pictures(4)])
    match(small, [pictures(4)], before, graph, structure)
    now, keeping = statistics(small, [pictures(4)]), graph.keeping(structure)
    for path, norm in norms(small).items():
        assert norm.running_mean is not None and norm.running_var is not None
        weight = graph.weights[f"{path}.running_mean"]
        kept = keeping.index(weight, 0) if weight.sides else ...
        dense: nn.BatchNorm2d = model.get_submodule(path)
        assert dense.running_mean is not None
        shift = now[path].mean - before[path].mean[kept]
        torch.testing.assert_close(norm.running_mean, dense.running_mean[kept] + shift)
