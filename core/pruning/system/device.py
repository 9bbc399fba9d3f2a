"""The device that is worked on, and the number format that is fast there."""

from __future__ import annotations

import torch


def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def low_precision() -> bool:
    """Whether bfloat16 arithmetic is native here, and so faster: CUDA from Ampere on, CPUs with AVX512-BF16 or AMX."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)
