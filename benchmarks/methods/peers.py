"""What zeros of `pdp` are compared with: the same ramp under hard masks, and torch's own global magnitudes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from torch import Tensor
from torch.nn.utils import prune as torch_prune

from core.domains.transformer.network import TransformerNetwork
from core.domains.transformer.parts import matrices
from core.pruning.masking import sparsity
from core.pruning.methods import magnitude
from core.pruning.training.train import History
from core.spec.budget import GROUPS, Pattern


def gradual() -> AbstractContextManager[Any]:
    """Gradual magnitude pruning (Zhu, Gupta 2017): masks are 0 or 1 at every step, and carry no gradient."""
    return patch.object(sparsity, "mask", hard_mask)


def hard_mask(weight: Tensor, lost: int, pattern: Pattern, share: float = 1.0) -> Tensor:
    """In place of `sparsity.mask`; N:M fades in as there."""
    if pattern in GROUPS:
        return 1 - share + share * sparsity.kept(weight, lost, pattern).to(weight.dtype)
    return sparsity.kept(weight, round(share * lost), pattern).to(weight.dtype)


def by_torch() -> AbstractContextManager[Any]:
    """torch.nn.utils.prune.global_unstructured in place of the product's magnitude."""
    return patch.object(magnitude, "zero", global_magnitude)


def global_magnitude(network: TransformerNetwork, amount: float, _pattern: Pattern, *_training: Any) -> History:
    """All matrices of the encoder at once, by L1."""
    parts: Any = [(network.body.get_submodule(n.removesuffix(".weight")), "weight") for n in matrices(network)]
    torch_prune.global_unstructured(parts, torch_prune.L1Unstructured, amount=amount)
    for module, name in parts:
        torch_prune.remove(module, name)  # type: ignore[no-untyped-call]
    return History()
