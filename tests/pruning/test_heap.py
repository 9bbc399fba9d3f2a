"""Freed memory is given back."""

from __future__ import annotations

from mmap import PAGESIZE
from pathlib import Path

import torch

from core.pruning.system.malloc import trim_heap

MIB = 2**20


def resident() -> int:
    """Bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGESIZE


def test_memory_between_what_is_kept_is_given_back() -> None:
    tensors = [torch.ones(16 * 1024) for _ in range(3200)]  # of 64 KiB: 200 MiB
    kept = tensors[::100]
    del tensors
    before = resident()
    trim_heap()
    assert before - resident() > 100 * MIB
    assert all(int(tensor.sum()) == 16 * 1024 for tensor in kept)
