"""torch-pruning's choice of channels, for the same recovery and under the same exact budget as our own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.domains.channels.graph import Graph
from core.domains.channels.network import ChannelNetwork
from core.domains.channels.tracing.trial import answers
from core.domains.fit import Scores
from core.domains.network import Network
from core.pruning.scoring.fitter import Fitter


def group_magnitude(network: Network, fitter: Fitter, _plan: Sequence[Any], _seed: int, **_options: Any) -> Scores:
    """Its group magnitudes (L2 over all weights of a group, each group's mean 1), ranked over all layers.

    The ranking is the library's; that the budget is met exactly, in widths of multiples, is `fit`'s. Units that stay
    together there and here are the same: tests/domains/channels/test_oracle.py.
    """
    assert isinstance(network, ChannelNetwork)
    return Scores(of_groups(network.assembled(), network.graph, network.side))


def of_groups(model: nn.Module, units_of_weights: Graph, side: int) -> NDArray[np.float64]:
    """The magnitude of each unit, by torch-pruning; ValueError where it gives none to one."""
    import torch_pruning as tp

    picture = {"pixel_values": torch.zeros(1, 3, side, side)}
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=picture, output_transform=first_tensor)
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    scores = np.full(units_of_weights.anatomy.size, np.nan)
    modules = dict(model.named_modules())
    for name, units in units_of_weights.producers.items():
        module = modules[name.rpartition(".")[0]]
        units_of = np.array(units)
        if (units_of < 0).all() or not np.isnan(scores[units_of[units_of >= 0]]).all():
            continue
        prune = tp.prune_conv_out_channels if isinstance(module, nn.Conv2d) else tp.prune_linear_out_channels
        group = graph.get_pruning_group(module, prune, list(range(len(units))))
        found = importance(group).detach().double().numpy()
        there = units_of >= 0
        scores[units_of[there]] = found[there]
    if np.isnan(scores).any():
        raise ValueError("torch-pruning gives no magnitude to some of the channels that can go")
    return scores


def first_tensor(output: object) -> Tensor:
    """Of any model: what it gives first."""
    return answers(output)[0]
