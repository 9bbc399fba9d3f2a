"""Remove units physically: slice the weights, then give the network the smaller shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from core.pruning.network import Network
from core.pruning.shrink import shrink
from core.spec.families import Architecture
from core.spec.structure import Structure


def paths_of(architecture: Architecture) -> dict[str, Any]:
    """The family's module paths as plain data, with the head size: what `shrink` needs."""
    return asdict(architecture.family) | {"head_size": architecture.head_size}


def slices(architecture: Architecture, structure: Structure) -> dict[str, tuple[int, list[int]] | None]:
    """Parameter name (in the body) -> (dimension, indices to keep), or None where the parameter goes.

    Parameters that are not named stay as they are. `structure` counts in the present network's own numbering.
    """
    family, size = architecture.family, architecture.head_size
    plan: dict[str, tuple[int, list[int]] | None] = {}
    for i, (heads, neurons) in enumerate(zip(structure.heads, structure.neurons, strict=True)):
        layer = f"{family.base}.{family.layers}.{i}"
        rows = [head * size + j for head in heads for j in range(size)]
        for path in (family.query, family.key, family.value):
            plan[f"{layer}.{path}.weight"] = plan[f"{layer}.{path}.bias"] = (0, rows) if rows else None
        plan[f"{layer}.{family.attention_out}.weight"] = (1, rows) if rows else None
        kept = list(neurons)
        plan[f"{layer}.{family.ffn_in}.weight"] = plan[f"{layer}.{family.ffn_in}.bias"] = (0, kept) if kept else None
        plan[f"{layer}.{family.ffn_out}.weight"] = (1, kept) if kept else None
        if not rows:
            plan[f"{layer}.{family.attention_out}.bias"] = None
        if not kept:
            plan[f"{layer}.{family.ffn_out}.bias"] = None
    return plan


def sliced(tensors: Mapping[str, Tensor], plan: Mapping[str, tuple[int, list[int]] | None]) -> dict[str, Tensor]:
    """Apply `slices` to any tensors that are named and shaped like the parameters."""
    result = {}
    for name, tensor in tensors.items():
        if name not in plan:
            result[name] = tensor
        elif (kept := plan[name]) is not None:
            result[name] = tensor.index_select(kept[0], torch.tensor(kept[1], device=tensor.device))
    return result


def cut(network: Network, structure: Structure, optimizer: torch.optim.AdamW | None = None) -> None:
    """Cut `network` in place to `structure`, which counts in the network's own numbering.

    With `optimizer`, its moments are cut alike and it goes on with the new parameters.
    """
    plan = slices(network.architecture, structure)
    before = dict(network.body.named_parameters())
    weights = sliced({name: tensor.detach() for name, tensor in network.body.state_dict().items()}, plan)
    shrink(network.body, paths_of(network.architecture), structure.sizes())
    network.body.load_state_dict(weights, strict=True)
    if optimizer is not None:
        _carry_over(optimizer, before, dict(network.body.named_parameters()), plan)


def _carry_over(
    optimizer: torch.optim.AdamW,
    before: Mapping[str, nn.Parameter],
    after: Mapping[str, nn.Parameter],
    plan: Mapping[str, tuple[int, list[int]] | None],
) -> None:
    name_of = {parameter: name for name, parameter in before.items()}
    for group in optimizer.param_groups:
        kept = []
        for parameter in group["params"]:
            name = name_of.get(parameter)
            if name is None:
                kept.append(parameter)  # a head: untouched
                continue
            state = optimizer.state.pop(parameter, {})
            if name in after:
                kept.append(after[name])
                moments = {key: value for key, value in state.items() if key != "step"}
                same = {key: sliced({name: value}, plan)[name] for key, value in moments.items()}
                if state:
                    optimizer.state[after[name]] = {"step": state["step"], **same}
        group["params"] = kept
