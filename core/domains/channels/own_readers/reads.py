"""Layers that read some channels of a tensor alone. Ships in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Reads:
    """A forward pre-hook, which hands a layer the channels that it reads: a view where they lie side by side."""

    def __init__(self, runs: Sequence[Sequence[int]], dim: int) -> None:
        """`runs`: [first, how many] along `dim`, ascending."""
        self.runs, self.dim = [list(run) for run in runs], dim
        self.kept: Tensor | None = None  # made where it is first needed: a model may begin on no device at all

    def __call__(self, _module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """What the layer gets in the place of `given`."""
        x, *rest = given
        if len(self.runs) == 1:
            return x.narrow(self.dim, *self.runs[0]), *rest
        return x.index_select(self.dim, self.index(x.device)), *rest

    def index(self, device: torch.device) -> Tensor:
        """Every channel that is read, (channels,)."""
        if self.kept is not None and self.kept.device == device:
            return self.kept
        index = torch.tensor([first + i for first, count in self.runs for i in range(count)], device=device)
        if not torch.compiler.is_compiling():  # whose tensors are no tensors outside
            self.kept = index
        return index


def read_apart(model: nn.Module, reads: Mapping[str, Sequence[Sequence[int]]]) -> None:
    """Let layers of `model`, by their paths, read these runs of channels alone: convolutions and linear layers."""
    for path, runs in reads.items():
        module: Any = model.get_submodule(path)
        module.register_forward_pre_hook(Reads(runs, 1 - module.weight.ndim))


def is_reader(module: nn.Module) -> bool:
    """Whether what it reads can be chosen when it is called."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return isinstance(module, kinds) and isinstance(module.weight, nn.Parameter)
