"""Remove units physically: slice the weights, then give the network the smaller shapes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.domains.structure import Structure
from core.domains.transformer.families import Architecture
from core.domains.transformer.parts import Transformer, configs, hidden_size, plain_name
from core.domains.transformer.residual import residual_side
from core.domains.transformer.shrink import narrow, shrink


@dataclass(frozen=True)
class Slice:
    """What is kept of a tensor: `kept` along `dimension`, in each of its `parts` of equal size."""

    dimension: int
    kept: list[int]
    parts: int = 1

    def of(self, tensor: Tensor) -> Tensor:
        """The slice."""
        step = tensor.shape[self.dimension] // self.parts
        index = [part * step + unit for part in range(self.parts) for unit in self.kept]
        return tensor.index_select(self.dimension, torch.tensor(index, device=tensor.device))


def slices(architecture: Architecture, structure: Structure) -> dict[str, Slice | None]:
    """Parameter name (in the body) -> what to keep, or None where the parameter goes.

    Parameters that are not named stay as they are. `structure` counts in the present network's own numbering.
    """
    family, size, width = architecture.family, architecture.head_size, architecture.head_width
    inner = (family.query, family.key, family.value, *family.relative)
    plan: dict[str, Slice | None] = {}

    def keep(layer: int, path: str, part: str, dimension: int, kept: list[int], parts: int = 1) -> None:
        name = f"{family.base}.{family.layers}.{layer}.{path}.{part}"
        plan[name] = Slice(dimension, kept, parts) if kept else None

    for i, (heads, units) in enumerate(zip(structure.heads, structure.neurons, strict=True)):
        rows = [head * size + j for head in heads for j in range(size)]
        wide = [head * width + j for head in heads for j in range(width)]  # of all its queries
        neurons = list(units)
        for part in ("weight", "bias"):
            for path in inner:
                keep(i, path, part, 0, wide if path == family.query else rows, inner.count(path))
            keep(i, family.ffn_in, part, 0, neurons, 1 + family.gated)
            keep(i, family.gate, part, 0, neurons)
        keep(i, family.attention_out, "weight", 1, wide)
        keep(i, family.ffn_out, "weight", 1, neurons)
        for path, kept in ((family.attention_out, rows), (family.ffn_out, neurons)):
            if not kept:
                keep(i, path, "bias", 0, [])
        for path in family.attention_norms if not heads else ():
            keep(i, path, "weight", 0, [])
    return plan


def sliced(tensors: Mapping[str, Tensor], plan: Mapping[str, Slice | None]) -> dict[str, Tensor]:
    """Apply `slices` to any tensors that are named and shaped like the parameters."""
    result = {}
    for name, tensor in tensors.items():
        if name not in plan:
            result[name] = tensor
        elif (part := plan[name]) is not None:
            result[name] = part.of(tensor)
    return result


def drop_layers(network: Transformer, dropped: Collection[int]) -> None:
    """Take whole layers out of `network`, in place; its config then says how many are left."""
    if not dropped:
        return
    family, body = network.architecture.family, network.body
    base = body.get_submodule(family.base)
    layers = dict(enumerate(base.get_submodule(family.layers)))
    kept = {i: layer for i, layer in layers.items() if i not in dropped}
    base.set_submodule(family.layers, nn.ModuleList(kept.values()))
    for number, layer in enumerate(kept.values()):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number
    for config in configs(body):
        types = getattr(config, "layer_types", None)  # which layers attend how far
        setattr(config, family.sizes[2], len(kept))
        if types:
            config.layer_types = [types[i] for i in kept]


def reshape(network: Transformer, structure: Structure) -> None:
    """Give `network` the layers and shapes of `structure`; its weights have to be loaded afterwards."""
    drop_layers(network, structure.dropped)
    paths = network.architecture.paths | {"hidden": hidden_size(network)}
    shrink(network.body, paths, structure.remaining().shape())
    if structure.hidden is not None:
        for head in network.heads.values():
            narrow(head, paths, len(structure.hidden), f"{network.architecture.family.head}.")


def cut(network: Transformer, structure: Structure, optimizer: torch.optim.AdamW | None = None) -> None:
    """Cut `network` in place to `structure`, which counts in the network's own numbering.

    With `optimizer`, its moments are cut alike and it goes on with the new parameters; whole layers and the hidden size
    have to stay then.
    """
    if structure.dropped or structure.hidden is not None:
        assert optimizer is None
        drop_layers(network, structure.dropped)
        structure = structure.remaining()
    plan = slices(network.architecture, structure)
    before = dict(network.body.named_parameters())
    weights = sliced(network.state_dict(), {f"body.{name}": part for name, part in plan.items()})
    weights = sliced(weights, residual_slices(network, structure.hidden))
    reshape(network, structure)
    network.load_state_dict(weights, strict=True)
    if optimizer is not None:
        _carry_over(optimizer, before, dict(network.body.named_parameters()), plan)


def residual_slices(network: Transformer, hidden: Sequence[int] | None) -> dict[str, Slice | None]:
    """Parameter name (in `network`, heads too) -> what to keep of it for the `hidden` dimensions; None: for all."""
    found: dict[str, Slice | None] = {}
    paths, size = network.architecture.paths, hidden_size(network)
    for name, tensor in network.named_parameters() if hidden is not None else ():
        side = residual_side(plain_name(network, name), tensor.shape, paths, size)
        if side is not None:
            found[name] = Slice(side, list(hidden or ()))
    return found


def _carry_over(
    optimizer: torch.optim.AdamW,
    before: Mapping[str, nn.Parameter],
    after: Mapping[str, nn.Parameter],
    plan: Mapping[str, Slice | None],
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
