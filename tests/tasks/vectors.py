"""What tests of vectors measure by: plain Python over lists, written apart from what is tested."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """0 where one of them is zero."""
    size = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / size if size else 0.0


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
