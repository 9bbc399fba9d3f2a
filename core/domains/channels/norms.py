"""BatchNorm after a cut: its running statistics are those of a network that is no more.

Plain statistics of few pictures ruin even the dense network, so what a cut changes is carried over instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from core.domains.channels.cut import slicer
from core.domains.channels.graph import Graph
from core.domains.structure import Structure

Batches = Iterable[Mapping[str, Tensor]]


@dataclass
class Moments:
    """Mean and variance of each channel of a norm's input, (channels,), over all pictures and positions so far."""

    count: int
    mean: Tensor
    variance: Tensor

    def add(self, x: Tensor) -> Moments:
        """With the batch `x`, (B, channels, ...)."""
        rows = x.detach().transpose(0, 1).flatten(1).double()
        count, mean, variance = rows.shape[1], rows.mean(1), rows.var(1, correction=0)
        total, gap = self.count + count, mean - self.mean
        part = count / total
        return Moments(
            total,
            self.mean + gap * part,
            self.variance * (1 - part) + variance * part + gap.square() * part * (1 - part),
        )


def norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Every BatchNorm that has running statistics, by its path."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    return {name: norm for name, norm in found.items() if norm.running_mean is not None}


@torch.no_grad()
def statistics(model: nn.Module, batches: Batches) -> dict[str, Moments]:
    """What each norm reads of these pictures, in evaluation mode."""
    return _watch(model, batches, lambda _name, _norm, _moments: None)


@torch.no_grad()
def match(
    model: nn.Module, batches: Batches, before: Mapping[str, Moments], graph: Graph, structure: Structure
) -> None:
    """Move the running mean of each norm by the shift, and scale its variance by the ratio, that the cut has brought.

    `before`: `statistics` of the network of `graph` on the same pictures; `structure`: what `model` has been cut to
    since, and nothing else changed its running statistics. A norm is matched as the pictures pass, so that those
    behind it read what it will give.
    """
    sliced = slicer(graph, structure)
    had: dict[str, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
    for name, norm in norms(model).items():
        old = [sliced(f"{name}.running_mean", value) for value in (before[name].mean, before[name].variance)]
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None and variance is not None
        had[name] = old[0], old[1], mean.double(), variance.double()

    def adapt(name: str, norm: _BatchNorm, now: Moments) -> None:
        assert norm.running_mean is not None and norm.running_var is not None
        mean, variance, running_mean, running_var = had[name]
        norm.running_mean.copy_(running_mean + now.mean - mean)
        norm.running_var.copy_(running_var * (now.variance + norm.eps) / (variance + norm.eps))

    _watch(model, batches, adapt)


def _watch(model: nn.Module, batches: Batches, hear: Callable[[str, _BatchNorm, Moments], None]) -> dict[str, Moments]:
    """Moments of each norm's input; `hear` is told of them before the norm runs. Of heads, of all that there are."""
    found: dict[str, Moments] = {}

    def hook(name: str) -> Any:
        def look(norm: _BatchNorm, args: tuple[Tensor]) -> None:
            empty = args[0].new_zeros(norm.num_features, dtype=torch.float64)
            found[name] = found.get(name, Moments(0, empty, empty)).add(args[0])
            hear(name, norm, found[name])

        return look

    handles = [norm.register_forward_pre_hook(hook(name)) for name, norm in norms(model).items()]
    try:
        with evaluating(model):
            for batch in batches:
                features = model(**batch)
                for head in getattr(model, "heads", {}).values():
                    head(features)
    finally:
        for handle in handles:
            handle.remove()
    return found


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run `model` in evaluation mode; then each module is as it was, and what it kept of these runs is dropped."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        model.train()  # LeViT drops the biases that it keeps
        for module, training in modes.items():
            module.train(training)
