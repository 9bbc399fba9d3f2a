"""What is cut is trained on: gates have gradients, an optimizer goes on, cuts follow each other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from core.domains.channels.cut import cut
from core.domains.channels.gates import gated
from core.domains.channels.tracing.trial import draw
from core.domains.structure import Structure
from tests.domains.channels.nets import answer, pictures, traced


def test_gates_have_gradients() -> None:
    model, graph = traced("squeeze")
    dense = Structure.dense(graph.anatomy)
    before = {name: id(parameter) for name, parameter in model.named_parameters()}
    gates = torch.ones(graph.anatomy.size, dtype=torch.float64, requires_grad=True)
    with gated(model, graph, gates, dense):
        answers = answer(model, pictures())
    assert torch.equal(answers, answer(model, pictures()))
    [gradient] = torch.autograd.grad(answers[0, 0], [gates])
    assert bool((gradient != 0).all())
    assert before == {name: id(parameter) for name, parameter in model.named_parameters()}
    moved = torch.zeros_like(gates)
    moved[3] = 1e-6
    with torch.no_grad(), gated(model, graph, gates + moved, dense):
        change = answer(model, pictures())[0, 0] - answers[0, 0]
    torch.testing.assert_close(change / 1e-6, gradient[3], rtol=1e-4, atol=0)


class Full(TorchFunctionMode):
    """Memory ends at the third product."""

    left = 2

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if call is torch.Tensor.mul:
            if not self.left:
                raise torch.OutOfMemoryError("CUDA out of memory")
            self.left -= 1
        return call(*args, **(kwargs or {}))


def test_a_network_stays_whole_where_memory_ends() -> None:
    model, graph = traced("squeeze")
    before = {name: id(parameter) for name, parameter in model.named_parameters()}
    gates = torch.ones(graph.anatomy.size, dtype=torch.float64)
    with pytest.raises(torch.OutOfMemoryError), Full(), gated(model, graph, gates, Structure.dense(graph.anatomy)):
        pass
    assert before == {name: id(parameter) for name, parameter in model.named_parameters()}


def test_gates_count_as_the_dense_model_does_after_a_cut() -> None:
    model, graph = traced("regnet_y")
    generator = torch.Generator().manual_seed(5)
    first = draw(graph, generator)
    small = copy.deepcopy(model)
    after = cut(small, graph, first)
    inner = draw(after, generator)
    both = Structure(tuple(tuple(had[i] for i in units) for had, units in zip(first.kept, inner.kept, strict=True)))
    gates = torch.from_numpy(graph.has(both)[:-1]).double()
    with torch.inference_mode():
        with gated(small, graph, gates, first):
            masked = answer(small, pictures())
        with gated(model, graph, gates, Structure.dense(graph.anatomy)):
            torch.testing.assert_close(answer(model, pictures()), masked, rtol=1e-11, atol=0)
        assert cut(small, after, inner) == graph.cut(both)
        torch.testing.assert_close(answer(small, pictures()), masked, rtol=1e-11, atol=0)


def test_the_optimizer_goes_on_with_its_moments() -> None:
    shared, graph = traced("twice")
    model = copy.deepcopy(shared).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        answer(model, pictures(2)).square().sum().backward()
        optimizer.step()
    name = "again.0.weight"
    before = optimizer.state[model.get_parameter(name)]["exp_avg"].clone()
    structure = draw(graph, torch.Generator().manual_seed(0))
    cut(model, graph, structure, optimizer)
    keeping, weight = graph.keeping(structure), graph.weights[name]
    wanted = before[keeping.index(weight, 0)][:, keeping.index(weight, 1)]
    assert torch.equal(optimizer.state[model.get_parameter(name)]["exp_avg"], wanted)
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in model.parameters()}
    assert len(optimizer.state) == len([*model.parameters()])
    was = model.get_parameter(name).detach().clone()
    optimizer.zero_grad()
    answer(model, pictures(2)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(was, model.get_parameter(name))
    assert model.get_parameter("one.weight") is model.get_submodule("other").weight
