"""Of each kind of network: masked == cut, costs are exact, and a cut checkpoint loads by its shapes alone."""

from __future__ import annotations

import copy
import inspect
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import CONFIG_MAPPING

from core.domains.channels.cost import ChannelCosts
from core.domains.channels.cut import cut, reshape
from core.domains.channels.families import FAMILIES as TABLE
from core.domains.channels.families import UNFIT, family_of
from core.domains.channels.gates import gated
from core.domains.channels.graph import Graph
from core.domains.channels.network import ChannelNetwork
from core.domains.channels.norms import evaluating
from core.domains.channels.resize import shapes_from
from core.domains.channels.tracing.state import State
from core.domains.channels.tracing.trace import _export, _names, _walk, trace
from core.domains.channels.tracing.trial import draw
from core.domains.channels.tracing.units import build
from core.domains.structure import Structure
from core.domains.transformer.families import Architecture
from core.spec.errors import SpecError
from tests.domains.channels.nets import FAMILIES, PLAIN, Twice, answer, make, pictures, traced

NAMES = [*FAMILIES, *PLAIN]
TASKS = {family.task_class.removesuffix("ForImageClassification").lower() for family in TABLE.values()}


def structures(graph: Graph, count: int = 2) -> list[Structure]:
    """Random ones."""
    generator = torch.Generator().manual_seed(3)
    return [draw(graph, generator) for _ in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_masked_equals_cut(name: str) -> None:
    model, graph = traced(name)
    dense, inputs = Structure.dense(graph.anatomy), pictures(2)
    for structure in structures(graph):
        gates = torch.from_numpy(graph.has(structure)[:-1]).double()
        with torch.inference_mode(), gated(model, graph, gates, dense):
            masked = answer(model, inputs)
        small = copy.deepcopy(model)
        after = cut(small, graph, structure)
        with torch.inference_mode():
            given = answer(small, inputs)
        assert float((given - masked).abs().max() / masked.abs().max()) < 1e-12
        assert after == graph.cut(structure)
        for path, tensor in [*small.named_parameters(), *small.named_buffers()]:
            assert after.weights[path].shape == tuple(tensor.shape)


@pytest.mark.parametrize("name", NAMES)
def test_costs_equal_what_the_cut_network_has(name: str) -> None:
    model, graph = traced(name)
    costs = ChannelCosts.of(graph)
    for structure in [Structure.dense(graph.anatomy), *structures(graph, 1)]:
        small = copy.deepcopy(model)
        cut(small, graph, structure)
        assert costs.params.model(structure) == sum(p.numel() for p in small.parameters())
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            small(**pictures())
        assert 2 * costs.macs.model(structure) == counter.get_total_flops()
        after = ChannelCosts.of(graph.cut(structure))
        assert after.macs.before == costs.macs.model(structure) == graph.cut(structure).macs
        assert after.params.before == costs.params.model(structure)
        tensors = small.state_dict()
        saved = {name: tensors[name] for name, weight in graph.weights.items() if weight.saved}
        saved = {name: value.float() if value.is_floating_point() else value for name, value in saved.items()}
        size = len(save(saved, metadata={"format": "pt"}))
        dense = structure == Structure.dense(graph.anatomy)
        assert size == costs.bytes.before if dense else size <= costs.bytes.model(structure) <= size + 40 * len(saved)


@pytest.mark.parametrize("name", [name for name, (family, _) in FAMILIES.items() if family.lower() in TASKS])
def test_a_plan_counts_zeros_as_the_job_does(name: str) -> None:
    """Of the body's weights: a head is no part of what is pruned."""
    model, graph = traced(name)
    network = ChannelNetwork(copy.deepcopy(model), TABLE[str(model.config.model_type)], graph, 64)
    costs, weights = network.costs(64), network.matrices().values()
    assert costs.matrices == sum(weight.numel() for weight in weights)
    assert costs.in_fours == sum(weight.numel() for weight in weights if weight.shape[1] % 4 == 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_checkpoint_loads_by_its_shapes(name: str) -> None:
    model, graph = traced(name)
    [structure] = structures(graph, 1)
    small, fresh, shaped = (copy.deepcopy(model) for _ in range(3))
    cut(small, graph, structure)
    shapes_from(fresh, small.state_dict())
    reshape(shaped, graph, structure)
    for other in (fresh, shaped):
        other.load_state_dict(small.state_dict(), strict=True)
        assert str(other) == str(small)  # what modules say of their sizes
        with torch.inference_mode():
            assert torch.equal(answer(other, pictures()), answer(small, pictures()))


LEAST = {  # of MACs: a rule that is lost would still be right, and of no use
    **{"resnet": 0.89, "regnet_y": 0.9, "mobilenet_v1": 0.98, "mobilenet_v2": 0.98, "efficientnet": 0.98},
    **{"hgnet_v2": 0.96, "textnet": 0.97, "convnext": 0.53, "mobilevit": 0.85, "mobilevitv2": 0.97, "levit": 0.79},
    **{
        "swiftformer": 0.89,
        "poolformer": 0.38,
        "focalnet": 0.44,
        "vit": 0.2,
        "deit": 0.2,
        "dinov2": 0.2,
        "swin": 0.45,
        "pvt_v2": 0.6,
    },
    **{"pp_lcnet": 0.96, "dense": 0.95, "inception": 0.96, "shuffle": 0.94, "ghost": 0.95, "squeeze": 0.77},
    **{"flat": 0.89, "twice": 0.96, "padded": 0.86},
}


@pytest.mark.parametrize("name", LEAST)
def test_most_of_it_can_go(name: str) -> None:
    assert ChannelCosts.of(traced(name)[1]).macs.removable > LEAST[name]


@pytest.mark.parametrize("name", ["convnextv2", "bit"])
def test_where_little_can_go_the_costs_say_so(name: str) -> None:
    assert ChannelCosts.of(traced(name)[1]).macs.removable < 0.05


@pytest.mark.parametrize("name", sorted(UNFIT))
def test_what_is_unfit_is_refused_by_name(name: str) -> None:
    """As a model of pictures, and as the listing and the worker read it, which do not know the task."""
    for read in (family_of, Architecture.from_config):
        with pytest.raises(SpecError, match=f"'{name}' is not supported: .*; these are: convnext, "):
            read({"model_type": name})
    assert name in CONFIG_MAPPING and name not in TABLE


@pytest.mark.parametrize("name", sorted({*FAMILIES} & {*TABLE}))
def test_which_read_pictures_of_one_size_alone(name: str) -> None:
    fails = pytest.raises((ValueError, RuntimeError)) if TABLE[name].one_size else nullcontext()
    with torch.inference_mode(), fails:
        traced(name)[0](**pictures(size=96))


def test_sizes_that_code_has_written_down_stay() -> None:
    graph = traced("written")[1]
    assert {block.name for block in graph.anatomy.blocks} == {"inner.0"}


@pytest.mark.parametrize("name", sorted({*NAMES} - {"written"}))
def test_the_first_reading_is_right(name: str) -> None:
    """The trial and what follows it are for code that has sizes written down, as how many heads of attention it has."""
    model, graph = traced(name)
    inputs = pictures()
    with evaluating(model):
        program = _export(model, inputs)
        state = State(heads=name in ("vit", "deit", "dinov2"))
        assert build(model, _walk(program, _names(model, program), state), graph.macs) == graph


class Full(Twice):
    """Runs out of memory, at once or once it is smaller."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least = least

    def run(self, x: Tensor) -> Tensor:
        if self.stem[0].weight.shape[0] < self.least:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
        return super().run(x)


@pytest.mark.parametrize("least", [8, 9], ids=["tried", "read"])
def test_where_memory_ends_nothing_is_said_of_the_model(least: int) -> None:
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        trace(Full(least).double().eval(), pictures())


def test_the_model_is_left_as_it_was() -> None:
    model = make("dense").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, pictures())
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_what_ships_imports_torch_alone() -> None:
    lines = Path(inspect.getfile(shapes_from)).read_text().splitlines()
    imported = {line.split()[1].partition(".")[0] for line in lines if line.startswith(("from ", "import "))}
    assert imported - sys.stdlib_module_names == {"torch"}


@pytest.mark.parametrize("name", ["vit", "deit", "dinov2"])
def test_a_head_of_attention_is_a_unit(name: str) -> None:
    """Its rows of query, key and value, its columns behind, and what it multiplies; in 2 layers of 2 heads of 8."""
    graph = traced(name)[1]
    [first, *_] = graph.anatomy.blocks
    assert first.size == 2 and graph.channels[0] == 8
    where = {(path, side) for path, w in graph.weights.items() for side, units in w.sides.items() if 0 in units}
    paths = {path.rpartition(".")[0] for path, _ in where}
    assert len(paths) == 4 and len({path.rpartition(".")[0] for path in paths}) <= 2 and len(where) == 7
    [tokens] = {round((price / 8) ** 0.5) for _, price in graph.products}
    assert len(graph.products) == 4 and {price for _, price in graph.products} == {8 * tokens**2}


@pytest.mark.parametrize("name", ["regnet_y", "flat", "shuffle", "vit"])
def test_a_graph_as_json(name: str) -> None:
    graph = traced(name)[1]
    assert Graph.from_json(graph.to_json()) == graph
