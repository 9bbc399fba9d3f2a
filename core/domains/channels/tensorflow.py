"""Numbers that transformers took over from TensorFlow, where they mean the opposite: what stays, not what goes."""

from __future__ import annotations

from torch import nn

from core.domains.channels.norms import norms

MOMENTUM = 0.1  # how much a batch counts in running statistics
SANE = 0.01, 0.5
MOST = 0.5  # that an image classifier drops


def as_torch_means(model: nn.Module) -> None:
    """Let a batch count a tenth in running statistics, and dropout drop the smaller part.

    transformers' MobileNet and EfficientNet carry 0.9997 and 0.99 as momentum, which in TensorFlow is what the past
    counts, and the MobileNets 0.999 and 0.8 as dropout, which there is what is kept.
    """
    for norm in norms(model).values():
        if norm.momentum is not None and not SANE[0] <= norm.momentum <= SANE[1]:
            norm.momentum = MOMENTUM
    for module in model.modules():
        if isinstance(module, nn.Dropout) and module.p > MOST:
            module.p = 1 - module.p
