"""What a reader process may be made to do by a hostile file, or by a fault of ours."""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from core.rows.sandbox import LOADED
from core.spec.errors import SpecError, SpecErrors


def hold(mib: int) -> int:
    """Memory of Python's."""
    return len(bytearray(mib * 2**20))


def arrow(mib: int) -> int:
    """Memory of Arrow's, in pieces."""
    import pyarrow as pa

    return sum(one.size for one in [pa.allocate_buffer(2**20) for _ in range(mib)])


def full(*_given: Any) -> Any:
    """Memory of PyTorch's, as it puts it."""
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12")


def spin() -> int:
    """CPU."""
    while True:
        pass


def spin_as_take(*_given: Any) -> Any:
    """CPU, where a file was to be read."""
    return spin()


def sleep() -> int:
    """Time."""
    time.sleep(3600)
    return 0


def tell_and_sleep() -> int:
    """Time, of a process that is known."""
    Path("pid").write_text(str(os.getpid()))
    return sleep()


def write() -> int:
    """Bytes of a file."""
    return Path("large").write_bytes(bytes(2 * 2**20))


def talk() -> str:
    """An answer without end."""
    return "a" * 2**25


def crash() -> int:
    """What a fault in C does."""
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def bug() -> int:
    """What a fault of ours does."""
    raise KeyError("absent")


def absent() -> int:
    """A file that is not there."""
    return Path("absent").stat().st_size


def refuse() -> int:
    """Two faults."""
    raise SpecErrors([SpecError("/a", "one"), SpecError("/b", "two")])


def surroundings() -> dict[str, Any]:
    """What it runs in."""
    return {
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "tmp": tempfile.gettempdir(),
        "cwd": str(Path.cwd()),
        "torch": "torch" in sys.modules,
        "not loaded": [name for name in LOADED if name not in sys.modules],
    }
