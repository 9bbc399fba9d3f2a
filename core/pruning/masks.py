"""Hard-concrete masks on heads, neurons and their blocks (Louizos, Welling, Kingma, ICLR 2018; CoFi, ACL 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import log
from typing import Any

import torch
from torch import Tensor, nn

from core.pruning.cut import paths_of
from core.pruning.fit import Scores
from core.pruning.network import Network, hidden_size, plain_name
from core.spec.cost import CostModel
from core.spec.residual import residual_side
from core.spec.structure import Structure

BETA = 2 / 3  # temperature
GAMMA, ZETA = -0.1, 1.1  # stretch
SHIFT = -BETA * log(-GAMMA / ZETA)  # P(z > 0) = sigmoid(a + SHIFT)
START = 2.5  # a mask starts open: a median sample is exactly 1
CLAMP = 4.605


def sample(log_alpha: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One draw of z in [0, 1] for each mask."""
    u = torch.rand(log_alpha.shape, device=log_alpha.device, generator=generator).clamp(1e-6, 1 - 1e-6)
    s = torch.sigmoid((u.log() - (1 - u).log() + log_alpha) / BETA)
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def alive(log_alpha: Tensor) -> Tensor:
    """P(z > 0) of each mask."""
    return torch.sigmoid(log_alpha + SHIFT)


@dataclass(frozen=True)
class Gates:
    """A value in [0, 1] for each unit and block: heads (L, H), neurons (L, N), attention (L,), ffn (L,).

    And for each hidden dimension, (D,), shared by all layers; None: all are 1.
    """

    heads: Tensor
    neurons: Tensor
    attention: Tensor
    ffn: Tensor
    hidden: Tensor | None = None

    @classmethod
    def of(cls, structure: Structure, like: Structure, size: int = 0) -> Gates:
        """0/1 gates that mask a network of structure `like` as `structure` would cut it; `size`: its hidden size."""

        def rows(kept: tuple[tuple[int, ...], ...], present: tuple[tuple[int, ...], ...]) -> Tensor:
            width = max(1, *map(len, present))
            out = torch.zeros(len(present), width)
            for i, units in enumerate(kept):
                out[i, list(units)] = 1.0
            return out

        heads, neurons = rows(structure.heads, like.heads), rows(structure.neurons, like.neurons)
        hidden = None
        if structure.hidden is not None:
            hidden = torch.zeros(size)
            hidden[list(structure.hidden)] = 1.0
        return cls(heads, neurons, heads.amax(1), neurons.amax(1), hidden)


class Masks(nn.Module):
    """The learned log-alphas, in the dense model's numbering, and which units the network still has."""

    def __init__(self, cost: CostModel) -> None:
        super().__init__()
        a = cost.architecture
        self.cost = cost
        self.heads = nn.Parameter(torch.full((a.layers, a.heads), START))
        self.neurons = nn.Parameter(torch.full((a.layers, a.neurons), START))
        self.attention = nn.Parameter(torch.full((a.layers,), START))
        self.ffn = nn.Parameter(torch.full((a.layers,), START))
        self.register_buffer("has_heads", torch.ones(a.layers, a.heads))
        self.register_buffer("has_neurons", torch.ones(a.layers, a.neurons))
        self.has_heads: Tensor
        self.has_neurons: Tensor

    def draw(self, generator: torch.Generator | None = None) -> Gates:
        """One sample of every gate."""
        return Gates(*(sample(a, generator) for a in (self.heads, self.neurons, self.attention, self.ffn)))

    def median(self) -> Gates:
        """The gates without noise (u = 1/2)."""
        with torch.no_grad():
            values = (self.heads, self.neurons, self.attention, self.ffn)
            return Gates(*((torch.sigmoid(a / BETA) * (ZETA - GAMMA) + GAMMA).clamp(0, 1) for a in values))

    def expected(self) -> Tensor:
        """Expected cost of the encoder layers, a scalar: a unit's survival times its block's, times the unit's cost."""
        attention, ffn = alive(self.attention), alive(self.ffn)
        heads = (alive(self.heads) * self.has_heads).sum(1) * attention
        neurons = (alive(self.neurons) * self.has_neurons).sum(1) * ffn
        c = self.cost
        blocks = c.attention_block * (attention * self.has_heads.amax(1)).sum()
        blocks = blocks + c.ffn_block * (ffn * self.has_neurons.amax(1)).sum()
        return c.encoder_fixed + c.head * heads.sum() + c.neuron * neurons.sum() + blocks

    def clamp(self) -> None:
        """Keep the log-alphas where their gradient lives."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.clamp_(-CLAMP, CLAMP)

    def keep(self, structure: Structure) -> None:
        """The network was cut to `structure` (dense numbering)."""
        gates = Gates.of(structure, Structure.dense(self.cost.architecture.anatomy))
        self.has_heads.copy_(gates.heads)
        self.has_neurons.copy_(gates.neurons)

    def scores(self) -> Scores:
        """Survival of each unit: its own times its block's; units that are gone score minus infinity."""
        with torch.no_grad():
            heads = (alive(self.heads) * alive(self.attention)[:, None]).where(self.has_heads.bool(), -torch.inf)
            neurons = (alive(self.neurons) * alive(self.ffn)[:, None]).where(self.has_neurons.bool(), -torch.inf)
        return Scores(heads.double().cpu().numpy(), neurons.double().cpu().numpy())


@contextmanager
def gated(network: Network, gates: Gates, present: Structure) -> Iterator[None]:
    """Run `network`, which has the units of `present`, under `gates` (dense numbering).

    A block adds gate(block) * projection(units * gate(units)) to the residual connection: with units or block at 0
    exactly what `cut` leaves.
    """
    family, size = network.architecture.family, network.architecture.head_width
    layers: Any = network.body.get_submodule(family.base).get_submodule(family.layers)
    handles = []
    for i, layer in enumerate(layers):
        plans = (
            (family.attention_out, present.heads[i], gates.heads[i], gates.attention[i], size),
            (family.ffn_out, present.neurons[i], gates.neurons[i], gates.ffn[i], 1),
        )
        for path, units, unit_gates, block_gate, repeat in plans:
            if units:
                values = unit_gates if len(units) == len(unit_gates) else unit_gates[list(units)]
                module = layer.get_submodule(path)
                handles.append(module.register_forward_pre_hook(_scale_input(values.repeat_interleave(repeat))))
                handles.append(module.register_forward_hook(_scale_output(block_gate)))
    if gates.hidden is not None:
        handles += _gate_stream(network, gates.hidden)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _gate_stream(network: Network, gate: Tensor) -> list[Any]:
    """Gate what every Linear reads of the residual stream, and let norms on it take their statistics by the gates."""
    paths, size, handles = paths_of(network.architecture), hidden_size(network), []
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
