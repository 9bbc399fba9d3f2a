"""The process's heap: memory that is free, but not given back."""

from __future__ import annotations

import ctypes


def trim_heap() -> None:
    """Give back what is free. glibc keeps it in holes, which networks and batches of another shape do not fit into.

    Nothing where the C library has no such call (benchmarks/results/memory.md).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
