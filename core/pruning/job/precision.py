"""`export.precision`: weights as their file will hold them, before anything is measured of them."""

from __future__ import annotations

import torch

from core.domains.network import Network
from core.spec.errors import SpecError
from core.spec.job import Precision


@torch.no_grad()
def round_weights(network: Network, precision: Precision) -> None:
    """Round every weight in place, which stays a float32; SpecError where one is too large for that precision."""
    if precision == "float32":
        return
    for name, weight in network.assembled().state_dict().items():
        if not weight.is_floating_point():
            continue
        rounded = weight.to(getattr(torch, precision)).to(weight.dtype)
        if not rounded.isfinite().all():
            raise SpecError(
                "/export/precision",
                f"{name} holds {float(weight.abs().max()):.3g}, which '{precision}' cannot say: give 'bfloat16' or "
                "'float32'",
            )
        weight.copy_(rounded)
