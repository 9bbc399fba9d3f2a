"""Where in a transformer's network its parts lie, and how large they are now."""

from __future__ import annotations

from collections.abc import Collection
from itertools import count
from typing import Any

from torch import nn

from core.domains.network import Network
from core.domains.structure import Structure
from core.domains.transformer.families import Architecture


class Transformer(Network):
    """A transformers model with one head a task, whose `architecture` says where its parts lie."""

    def __init__(self, body: Any, architecture: Architecture) -> None:
        super().__init__(body, architecture.family.head, architecture.anatomy)
        self.architecture = architecture


def plain_name(network: Transformer, name: str) -> str:
    """What the plain model calls the parameter that is `name` in `network`; any task's head is the head."""
    where, _, rest = name.partition(".")
    return rest if where == "body" else f"{network.architecture.family.head}.{rest.partition('.')[2]}"


def hidden_size(network: Transformer) -> int:
    """Dimensions that the residual stream has."""
    architecture = network.architecture
    if not (heads := architecture.family.head_layers):  # of vectors, where none goes
        return architecture.hidden
    first: Any = network.assembled().get_submodule(heads[0])
    return int(first.in_features)


def matrices(network: Transformer) -> dict[str, nn.Parameter]:
    """The weight of every Linear in the encoder layers, by its name in the body."""
    root = f"{network.architecture.family.base}.{network.architecture.family.layers}."
    linears = {f"{name}.weight" for name, module in network.body.named_modules() if isinstance(module, nn.Linear)}
    return {name: p for name, p in network.body.named_parameters() if name in linears and name.startswith(root)}


def longest_text(network: Transformer, wanted: int) -> int:
    """Tokens that the model can take, at most `wanted`."""
    spare = network.architecture.family.extra_positions
    return min(wanted, getattr(network.body.config, "max_position_embeddings", wanted + spare) - spare)


def units(network: Transformer) -> Structure:
    """The heads and neurons that the network has, counted from 0 in each layer."""
    family, size = network.architecture.family, network.architecture.head_width
    layers: Any = network.body.get_submodule(family.base).get_submodule(family.layers)

    def width(layer: Any, path: str) -> int:
        linears = dict(layer.named_modules())
        return int(getattr(linears.get(path), "in_features", 0))

    return Structure.of(
        (range(width(layer, family.attention_out) // size) for layer in layers),
        (range(width(layer, family.ffn_out)) for layer in layers),
    )


def configs(body: Any) -> list[Any]:
    """Every config that a part of `body` reads, once."""
    return list({id(module.config): module.config for module in body.modules() if hasattr(module, "config")}.values())


def projections(network: Transformer, dropped: Collection[int] = ()) -> dict[str, nn.Linear]:
    """The output projection of every block that is left, in the order in which a row meets them.

    Named by the layer's number in the dense model, where those `dropped` are counted, too.
    """
    family = network.architecture.family
    layers: Any = network.body.get_submodule(family.base).get_submodule(family.layers)
    found = {}
    for i, layer in zip((i for i in count() if i not in dropped), layers, strict=False):
        modules = dict(layer.named_modules())
        for path in (family.attention_out, family.ffn_out):
            if isinstance(modules.get(path), nn.Linear):
                found[f"{i}.{path}"] = modules[path]
    return found
