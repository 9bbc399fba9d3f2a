"""The network that is trained and pruned: a transformers model with one head a task."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from core.domains.structure import Structure
from core.domains.transformer.embedder import in_two
from core.domains.transformer.families import Architecture

TARGET = "target"


class Network(nn.Module):
    """A pre-trained body and a head for each task: `target`, and one for each source with labels of its own.

    The embeddings stay as they were pre-trained: a few hundred rows teach them little, and updating them costs more
    than all else once the encoder is small (as CoFi's recipe, too, leaves them).
    """

    def __init__(self, body: Any, architecture: Architecture) -> None:
        super().__init__()
        head = getattr(body, architecture.family.head)
        setattr(body, architecture.family.head, nn.Identity())
        self.body = body  # gives features where the plain model gives logits
        self.heads = nn.ModuleDict({TARGET: head})
        self.architecture = architecture
        family = architecture.family
        body.get_submodule(f"{family.base}.{family.embeddings}").requires_grad_(False)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Features that a head reads, for example (B, hidden), of words (B, T, hidden)."""

        def run(**inputs: Tensor) -> Tensor:
            features: Tensor = self.body(**inputs).logits
            return features

        apart = self.architecture.family.of_vectors and inputs["attention_mask"].device.type == "cpu"
        return in_two(run, inputs) if apart else run(**inputs)

    def logits(self, inputs: Mapping[str, Tensor], head: str = TARGET) -> Tensor:
        """Logits of one task, (B, outputs), of words (B, T, outputs)."""
        result: Tensor = self.heads[head](self(**inputs))
        return result

    def add_head(self, name: str, classes: int) -> None:
        """A fresh head with `classes` outputs, built like the target's; whatever was drawn before, it is the same."""
        head = copy.deepcopy(self.heads[TARGET])
        path, last = last_linear(head)
        fresh = nn.Linear(last.in_features, classes, bias=last.bias is not None, device=last.weight.device)
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        with torch.no_grad():
            fresh.weight.copy_(torch.randn(fresh.weight.shape, generator=generator) * 0.02)
        if fresh.bias is not None:
            nn.init.zeros_(fresh.bias)
        if path:
            head.set_submodule(path, fresh)
        else:
            head = fresh
        self.heads[name] = head

    def rescale(self, deviation: float, mean: float) -> None:
        """Let the target's answers be multiplied by `deviation` and moved by `mean` from here on."""
        _, last = last_linear(self.heads[TARGET])
        with torch.no_grad():
            last.weight.mul_(deviation)
            last.bias.mul_(deviation).add_(mean)

    def keep_tokens(self, kept: Sequence[int]) -> None:
        """Keep the embeddings of some tokens, which are numbered anew: the place in `kept` is a token's id."""
        old = self.body.get_input_embeddings()
        config = self.body.config
        new = {before: i for i, before in enumerate(kept)}
        for name, value in config.to_dict().items():
            if name.endswith("_token_id") and isinstance(value, int):
                setattr(config, name, new.get(value))
        smaller = nn.Embedding(len(kept), old.embedding_dim, new.get(old.padding_idx), device=old.weight.device)
        smaller.weight = nn.Parameter(old.weight.detach()[list(kept)], requires_grad=old.weight.requires_grad)
        self.body.set_input_embeddings(smaller)
        config.vocab_size = len(kept)

    def drop_nothing(self) -> None:
        """Train without dropout from here on: a small student of a teacher fits too little, not too much."""
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "attention_dropout", None), float):  # ModernBERT's attention
                module.attention_dropout = 0.0  # type: ignore[assignment]

    def assembled(self) -> Any:
        """The plain transformers model with the target's head in its place. Shares the weights."""
        body = copy.copy(self.body)
        body._modules = dict(self.body._modules)
        setattr(body, self.architecture.family.head, self.heads[TARGET])
        return body


def plain_name(network: Network, name: str) -> str:
    """What the plain model calls the parameter that is `name` in `network`; any task's head is the head."""
    where, _, rest = name.partition(".")
    return rest if where == "body" else f"{network.architecture.family.head}.{rest.partition('.')[2]}"


def hidden_size(network: Network) -> int:
    """Dimensions that the residual stream has."""
    architecture = network.architecture
    if not (heads := architecture.family.head_layers):  # of vectors, where none goes
        return architecture.hidden
    first: Any = network.assembled().get_submodule(heads[0])
    return int(first.in_features)


def matrices(network: Network) -> dict[str, nn.Parameter]:
    """The weight of every Linear in the encoder layers, by its name in the body."""
    root = f"{network.architecture.family.base}.{network.architecture.family.layers}."
    linears = {f"{name}.weight" for name, module in network.body.named_modules() if isinstance(module, nn.Linear)}
    return {name: p for name, p in network.body.named_parameters() if name in linears and name.startswith(root)}


def last_linears(head: nn.Module) -> list[tuple[str, nn.Linear]]:
    """The Linear that gives the answers, and its path inside the head; of one that only pools, none."""
    return [(path, module) for path, module in head.named_modules() if isinstance(module, nn.Linear)][-1:]


def last_linear(head: nn.Module) -> tuple[str, nn.Linear]:
    """The Linear that gives the logits, and its path inside the head."""
    [found] = last_linears(head)
    return found


def longest_text(network: Network, wanted: int) -> int:
    """Tokens that the model can take, at most `wanted`."""
    spare = network.architecture.family.extra_positions
    return min(wanted, getattr(network.body.config, "max_position_embeddings", wanted + spare) - spare)


def units(network: Network) -> Structure:
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
