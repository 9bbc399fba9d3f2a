"""The network under gates of heads, neurons, their blocks and hidden dimensions (CoFi: Xia et al., ACL 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from core.domains.gates import Gates
from core.domains.structure import ATTENTION, FFN, Structure
from core.domains.transformer.parts import Transformer, hidden_size, plain_name
from core.domains.transformer.residual import residual_side


@contextmanager
def gated(network: Transformer, gates: Gates, present: Structure) -> Iterator[None]:
    """Run `network`, which has the units of `present`, under `gates` (dense numbering).

    A block adds gate(block) * projection(units * gate(units)) to the residual connection: with units or block at 0
    exactly what `cut` leaves.
    """
    family = network.architecture.family
    layers: Any = network.body.get_submodule(family.base).get_submodule(family.layers)
    kinds = (ATTENTION, family.attention_out, network.architecture.head_width), (FFN, family.ffn_out, 1)
    handles = []
    for kind, path, repeat in kinds:
        blocks, _ = gates.anatomy.kinds[kind]
        for layer, block in zip(layers, range(blocks.start, blocks.stop), strict=True):
            if units := present.kept[block]:
                values = gates.units[gates.anatomy.spans[block]]
                values = values if len(units) == len(values) else values[list(units)]
                module = layer.get_submodule(path)
                handles.append(module.register_forward_pre_hook(_scale_input(values.repeat_interleave(repeat))))
                handles.append(module.register_forward_hook(_scale_output(gates.blocks[block])))
    if gates.hidden is not None:
        handles += _gate_stream(network, gates.hidden)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _gate_stream(network: Transformer, gate: Tensor) -> list[Any]:
    """Gate what every Linear reads of the residual stream, and let norms on it take their statistics by the gates."""
    paths, size, handles = network.architecture.paths, hidden_size(network), []
    for name, module in network.named_modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor):
            continue
        side = residual_side(plain_name(network, f"{name}.weight"), weight.shape, paths, size)
        if side == 1 and isinstance(module, nn.Linear):
            handles.append(module.register_forward_pre_hook(_scale_input(gate)))
        elif side == 0 and weight.ndim == 1:
            handles.append(module.register_forward_hook(partial(_normed, gate)))
    return handles


def _normed(gate: Tensor, norm: Any, args: tuple[Tensor], output: Tensor) -> Tensor:
    """LayerNorm, or RMSNorm, over the dimensions whose gate is 1, as far as it is."""
    x = args[0].float()
    if isinstance(norm, nn.LayerNorm):
        x = x - (x * gate).sum(-1, keepdim=True) / gate.sum()
        epsilon: float = norm.eps
    else:
        epsilon = norm.variance_epsilon
    scale = torch.rsqrt((x.square() * gate).sum(-1, keepdim=True) / gate.sum() + epsilon)
    normed: Tensor = x * scale * norm.weight
    bias = getattr(norm, "bias", None)
    return (normed if bias is None else normed + bias).to(output.dtype)


def _scale_input(values: Tensor) -> Any:
    return lambda _module, args: (args[0] * values.to(args[0].dtype),)


def _scale_output(value: Tensor) -> Any:
    return lambda _module, _args, output: output * value.to(output.dtype)
