"""Give a model the shapes that a checkpoint's tensors have, so that they load strictly. Ships in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def shapes_from(model: nn.Module, tensors: Mapping[str, Any]) -> None:
    """Resize parameters and buffers of `model`, in place, to those of `tensors`, and what modules say of their sizes.

    `tensors`: name in the state dict -> a tensor or a shape. Those that change are new and empty; `load_state_dict`
    fills them. Names that the model has not are left to it, too.
    """
    changed: dict[int, Any] = {}  # tied parameters stay tied
    for path, module in model.named_modules():
        for name, old in [*module._parameters.items(), *module._buffers.items()]:
            wanted = tensors.get(f"{path}.{name}" if path else name)
            if old is None:
                continue
            if id(old) not in changed and wanted is not None:
                shape = tuple(getattr(wanted, "shape", wanted))
                if shape != tuple(old.shape):
                    changed[id(old)] = old, empty_like(old, shape)
            if id(old) in changed:
                put(module, name, changed[id(old)][1])


def empty_like(old: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A tensor, or parameter, like `old` in all but its shape; what it holds is to be loaded."""
    new = old.detach().new_zeros(shape)
    return nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new


def put(module: nn.Module, name: str, new: Tensor) -> None:
    """Let a module hold `new` in the place of its parameter or buffer `name`, and say so of its own sizes."""
    old = getattr(module, name)
    kind: Any = module
    if name == "weight" and hasattr(module, "in_channels") and hasattr(module, "groups"):  # a convolution
        if kind.groups > 1:
            kind.groups = new.shape[0] // (kind.out_channels // kind.groups)
        kind.out_channels, kind.in_channels = new.shape[0], new.shape[1] * kind.groups
    elif name == "weight" and isinstance(module, nn.Linear):
        kind.out_features, kind.in_features = new.shape
    elif old.ndim == 1:
        for attribute in ("num_features", "num_parameters"):  # of BatchNorm, of PReLU
            if getattr(module, attribute, None) == old.shape[0]:
                setattr(module, attribute, new.shape[0])
    (module._parameters if name in module._parameters else module._buffers)[name] = new  # type: ignore[assignment]
