"""torch-pruning's choice of channels, for the same recovery and under the same exact budget as our own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from core.domains.channels.network import ChannelNetwork
from core.domains.fit import Scores
from core.domains.network import Network
from core.pruning.scoring.fitter import Fitter


def group_magnitude(network: Network, fitter: Fitter, _plan: Sequence[Any], _seed: int, **_options: Any) -> Scores:
    """Its group magnitudes (L2 over all weights of a group, each group's mean 1), ranked over all layers.

    The ranking is the library's; that the budget is met exactly, in widths of multiples, is `fit`'s. Units that stay
    together there and here are the same: tests/domains/channels/test_oracle.py.
    """
    import torch_pruning as tp

    assert isinstance(network, ChannelNetwork)
    model = network.assembled()
    picture = {"pixel_values": torch.zeros(1, 3, network.side, network.side)}
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=picture, output_transform=_logits)
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    scores = np.full(fitter.cost.anatomy.size, np.nan)
    modules = dict(model.named_modules())
    for name, units in network.graph.producers.items():
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
    return Scores(scores)


def _logits(output: Any) -> Any:
    return output.logits
