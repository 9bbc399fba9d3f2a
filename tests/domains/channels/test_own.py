"""Readers with channels of their own: masked == cut, in any order; costs are exact; hooks survive copies, exports."""

from __future__ import annotations

import copy
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from core.domains.channels.cost import ChannelCosts
from core.domains.channels.cut import cut, reads_of, reshape
from core.domains.channels.gates import gated
from core.domains.channels.graph import Graph
from core.domains.channels.own_readers.keep import Keeping
from core.domains.channels.own_readers.readers import draw_own, own_readers
from core.domains.channels.own_readers.reads import Reads, read_apart
from core.domains.channels.resize import shapes_from
from core.domains.channels.tracing.trace import trace
from core.domains.structure import ChannelStructure, Structure
from core.pruning.latency.onnx import write_onnx
from core.spec.errors import SpecError
from tests.domains.channels.nets import FAMILIES, PLAIN, Plain, answer, make, pictures, scattered, traced
from tests.domains.channels.test_random_nets import SIDE, STEPS, Drawn, Step
from tests.draws import draws

NAMES = [name for name in (*FAMILIES, *PLAIN) if name not in ("convnextv2", "bit")]  # of which nothing can go


def masked(model: nn.Module, graph: Graph, structure: ChannelStructure, inputs: dict[str, Tensor]) -> Tensor:
    """What the dense network answers where own columns are zero."""
    gates = torch.from_numpy(graph.has(structure)[:-1]).double()
    columns = torch.from_numpy(~graph.columns.left_out(structure)).double()
    with torch.inference_mode(), gated(model, graph, gates, Structure.dense(graph.anatomy), columns):
        return answer(model, inputs)


def own(name: str) -> tuple[nn.Module, Graph, ChannelStructure]:
    """A network, its graph, and a structure in which readers leave out what others read."""
    model, graph = traced(name)
    graph = own_readers(model, graph, pictures())
    return model, graph, draw_own(graph, torch.Generator().manual_seed(5))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_masked_equals_cut_and_costs_are_exact(name: str) -> None:
    model, graph, _ = own(name)
    costs, inputs, seen = ChannelCosts.of(graph), pictures(2), [0, 0]
    for seed in range(3):
        structure = draw_own(graph, torch.Generator().manual_seed(seed))
        small = copy.deepcopy(model)
        after = cut(small, graph, structure)
        with torch.inference_mode():
            given = answer(small, inputs)
        apart = masked(model, graph, structure, inputs)
        assert float((given - apart).abs().max() / apart.abs().max()) < 1e-12
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            small(**pictures())
        assert counter.get_total_flops() == 2 * costs.macs.model(structure) == 2 * after.macs
        assert costs.params.model(structure) == sum(p.numel() for p in small.parameters())
        seen[0] += len(structure.left_out)
        seen[1] += graph.keeping(structure).moved
    assert min(seen) > 0


@draws(60)
@given(steps=st.lists(STEPS, min_size=2, max_size=8), flat=st.booleans(), seed=st.integers(0, 99))
def test_masked_equals_cut_on_random_networks(steps: list[Step], flat: bool, seed: int) -> None:
    torch.manual_seed(0)
    model = Drawn([("conv", 0, 0, 8), *steps], flat).double().eval()
    inputs = pictures(2, SIDE)
    scattered(model)
    graph = own_readers(model, trace(model, inputs), pictures(1, SIDE))
    structure = draw_own(graph, torch.Generator().manual_seed(seed))
    small = copy.deepcopy(model)
    cut(small, graph, structure)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        given = answer(small, inputs)
    apart = masked(model, graph, structure, inputs)
    assert float((given - apart).abs().max() / apart.abs().max()) < 1e-11
    assert counter.get_total_flops() == 2 * 2 * ChannelCosts.of(graph).macs.model(structure)


@pytest.mark.parametrize("name", ["dense", "ghost", "twice", "flat", "mobilenet_v2"])
def test_a_checkpoint_loads_by_shapes_and_reads(name: str) -> None:
    """As files do, as a resumed job does, and from nothing on the meta device."""
    model, graph, structure = own(name)
    small, fresh, shaped = (copy.deepcopy(model) for _ in range(3))
    cut(small, graph, structure)
    said = Structure.from_json(structure.to_json())
    assert said == structure and hash(said) == hash(structure)
    with torch.device("meta"):
        empty = make(name)
    runs = reads_of(model, graph, structure)
    for other in (fresh, empty):
        shapes_from(other, small.state_dict())
        read_apart(other, runs)
    assert reshape(shaped, graph, structure) == graph.cut(structure)
    fresh.load_state_dict(small.state_dict(), strict=True)
    shaped.load_state_dict(small.state_dict(), strict=True)
    empty.load_state_dict(small.state_dict(), strict=True, assign=True)
    wanted = answer(small, pictures())
    for other in (fresh, shaped, copy.deepcopy(fresh)):
        assert torch.equal(answer(other, pictures()), wanted)
    assert {path for path, module in empty.named_modules() if module._forward_pre_hooks} == {*runs}


def test_what_lies_side_by_side_is_a_view_and_the_rest_is_gathered(tmp_path: Path) -> None:
    """In ONNX, too: Slice and Gather."""
    import onnx
    from onnxruntime import InferenceSession

    torch.manual_seed(0)
    model = Reading()
    read_apart(model, {"one": [[2, 3]], "two": [[0, 1], [3, 2]]})
    x = torch.randn(2, 6, 4, 4)
    wanted = model.one(x) + model.two(x)
    assert torch.equal(wanted, model.one.forward(x[:, 2:5]) + model.two.forward(x[:, [0, 3, 4]]))
    [view], [gathered] = (part._forward_pre_hooks.values() for part in (model.one, model.two))
    assert isinstance(view, Reads) and view(model.one, (x,))[0].data_ptr() == x[:, 2:].data_ptr()
    assert isinstance(gathered, Reads) and gathered.kept is not None
    gathered.kept = None
    write_onnx(model, {"pixel_values": torch.randn(2, 6, 4, 4)}, tmp_path / "model.onnx", ("batch",))
    assert gathered.kept is None or type(gathered.kept) is Tensor
    kinds = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert {"Slice", "Gather"} <= kinds
    session = InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (said,) = session.run(None, {"pixel_values": x.numpy()})
    np.testing.assert_allclose(said, wanted.detach().numpy(), atol=1e-5)


class Reading(Plain):
    """Two convolutions that read three of six channels each."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def run(self, x: Tensor) -> Tensor:
        return self.one(x) + self.two(x)


class Borrowed(Plain):
    """A layer that is never called: another reads its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.lent, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(6, 5)

    def run(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = nn.functional.conv2d(x, self.lent.weight) * self.last(x)
        return self.head(x.mean((2, 3)))


def test_a_layer_that_is_not_called_reads_what_is_there() -> None:
    model = scattered(Borrowed().double().eval())
    graph = own_readers(model, trace(model, pictures()), pictures())
    assert dict(zip(graph.columns.paths, graph.columns.free.tolist(), strict=True)) == {
        "lent": False,
        "last": True,
        "head": True,
    }


def test_where_it_does_not_answer_as_masked_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, graph = traced("dense")
    monkeypatch.setattr(Keeping, "reads", lambda _keeping, _weight: [])
    with pytest.raises(SpecError, match="channels of their own") as raised:
        own_readers(model, graph, pictures())
    assert raised.value.field == "/channels/readers"


def test_a_network_whose_readers_are_apart_is_cut_once() -> None:
    _, graph, structure = own("dense")
    with pytest.raises(ValueError, match="cut once"):
        structure.within(Structure.dense(graph.anatomy))


def test_gates_of_columns_share_that_of_their_unit() -> None:
    model, graph, _ = own("ghost")
    units = torch.ones(graph.anatomy.size, dtype=torch.float64, requires_grad=True)
    columns = torch.ones(len(graph.columns.unit), dtype=torch.float64, requires_grad=True)
    with gated(model, graph, units, Structure.dense(graph.anatomy), columns):
        answers = answer(model, pictures())
    of_units, of_columns = torch.autograd.grad(answers[0, 0], [units, columns])
    assert bool((of_columns != 0).all())
    summed = torch.zeros_like(units).index_add(0, torch.from_numpy(graph.columns.unit), of_columns)
    torch.testing.assert_close(summed, of_units, rtol=1e-9, atol=1e-12)
