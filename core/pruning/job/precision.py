"""`export.precision`: weights as their file will hold them, before anything is measured of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from core.domains.network import Network
from core.spec.errors import SpecError
from core.spec.job import Precision


def require_range(network: Network, precision: Precision) -> None:
    """Raises SpecError where a weight is too large for that precision."""
    for _ in rounded(network, precision):
        pass


@torch.no_grad()
def round_weights(network: Network, precision: Precision) -> None:
    """Round every weight in place, which stays a float32; SpecError as above."""
    for weight, near in rounded(network, precision):
        weight.copy_(near)


def rounded(network: Network, precision: Precision) -> Iterator[tuple[Tensor, Tensor]]:
    """Each weight, and what that precision makes of it."""
    if precision == "float32":
        return
    for name, weight in network.assembled().state_dict().items():
        if not weight.is_floating_point():
            continue
        near = weight.to(getattr(torch, precision)).to(weight.dtype)
        if not near.isfinite().all():
            raise SpecError(
                "/export/precision",
                f"{name} holds {float(weight.abs().max()):.3g}, which '{precision}' cannot say: give 'bfloat16' or "
                "'float32'",
            )
        yield weight, near
