"""Which channels go together: the same as torch-pruning's dependency graph says, which reads autograd's instead.

Left out are nets that it reads otherwise: grouped convolutions (RegNet, ShuffleNet- and SqueezeNet-like: of a group it
cuts one channel, here the group is the unit), heads of attention, of which it has to be told, a weight that has two
names, and two that it gets wrong: LeViT, whose queries read a part of the picture, and channels of zeros before others.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from torch import nn

from core.domains.channels.graph import Graph
from tests.domains.channels.nets import pictures, traced

pruning: Any = pytest.importorskip("torch_pruning")
Indices = set[tuple[str, int, int]]  # weight, dimension, index
ALIKE = ("resnet", "resnet_basic", "mobilenet_v1", "mobilenet_v2", "efficientnet", "hgnet_v2", "textnet", "convnext")
ALIKE += ("mobilevit", "mobilevitv2", "poolformer", "focalnet", "swin", "pvt_v2", "dense", "inception", "ghost")
ALIKE += ("flat", "written")
TRIED = 2  # units of a block


def units_of(graph: Graph) -> dict[int, Indices]:
    """Where each unit lies in the weights of layers and norms."""
    found: dict[int, Indices] = defaultdict(set)
    for name, weight in graph.weights.items():
        for side, units in weight.sides.items() if name.endswith(".weight") else ():
            for index, unit in enumerate(units):
                found[unit].add((name, side, index))
    return found


def groups_of(model: nn.Module) -> Callable[[str, int], Indices]:
    """Of a layer's weight and a row of it: what torch-pruning would remove with it."""
    names = {module: name for name, module in model.named_modules()}
    found = pruning.DependencyGraph().build_dependency(
        model, pictures(), output_transform=lambda given: getattr(given, "logits", given)
    )

    def removed(name: str, row: int) -> Indices:
        layer = model.get_submodule(name.removesuffix(".weight"))
        linear = isinstance(layer, nn.Linear)
        prune = pruning.prune_linear_out_channels if linear else pruning.prune_conv_out_channels
        group = found.get_pruning_group(layer, prune, [row])
        return {one for dependency, rows in group for one in lies(dependency, rows)}

    def lies(dependency: Any, rows: list[int]) -> Iterator[tuple[str, int, int]]:
        module = dependency.target.module
        if module in names and isinstance(getattr(module, "weight", None), nn.Parameter):
            alone = isinstance(module, nn.BatchNorm2d | nn.LayerNorm) or getattr(module, "groups", 1) > 1
            side = 0 if alone or found.is_out_channel_pruning_fn(dependency.handler) else 1
            yield from ((f"{names[module]}.weight", side, int(row)) for row in rows)

    return removed


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Unwrapped parameters")
@pytest.mark.parametrize("name", ALIKE)
def test_units_are_its_groups(name: str) -> None:
    model, graph = traced(name)
    units, group = units_of(graph), groups_of(copy.deepcopy(model))
    tried = 0
    for span in graph.anatomy.spans:
        for unit in range(span.start, span.stop, max(1, (span.stop - span.start) // TRIED)):
            weight, _, row = min(one for one in units[unit] if one[1] == 0 and one[0] in graph.producers)
            assert group(weight, row) == units[unit]
            tried += 1
    assert tried
