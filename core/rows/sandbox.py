"""A process for each read: bounded in memory, CPU, time and files, and ended with the process that asked for it.

Files of strangers are unpacked and parsed there alone, so that what they cost is known beforehand. Processes are forked
from a server that has loaded what reading needs; what comes back is JSON, of at most `MAX_ANSWER` bytes.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Lock, Thread
from types import ModuleType
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter
from pydantic_core import to_json

from core.die_with_parent import die_with_parent
from core.machine import is_full
from core.spec.errors import SpecError, SpecErrors

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_ANSWER = 16 * 2**20
PATIENCE = 3  # seconds of a clock for each of CPU: the machine may be busy
MIB = 2**20

LOADED = (  # before any process is forked: of one that is not there nothing would be heard
    "PIL.BmpImagePlugin",
    "PIL.GifImagePlugin",
    "PIL.ImageOps",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "PIL.WebPImagePlugin",
    "charset_normalizer",
    "duckdb",
    "pyarrow.compute",
    "pyarrow.parquet",
    "python_calamine",
    "core.rows.survey",
    "core.rows.take",
)

_context = get_context("forkserver")
_context.set_forkserver_preload([*LOADED])
_lock = Lock()  # multiprocessing looks at the children of all threads when it starts one
_alive: set[BaseProcess] = set()


@dataclass(frozen=True)
class Bounds:
    """What one read may take: memory beyond what an idle process has, and bytes of any one file that it writes."""

    memory_bytes: int
    cpu_s: int
    file_bytes: int


class Exceeded(SpecError):
    """One of the bounds was met."""


@dataclass(frozen=True)
class _Answer:
    kind: Literal["result", "fault", "memory", "system", "bug"]
    result: Any = None
    faults: list[tuple[str, str]] = field(default_factory=list)
    message: str = ""
    errno: int = 0


def run(function: Callable[..., T], *given: Any, returns: type[T], bounds: Bounds, scratch: Path, where: str) -> T:
    """What `function(*given)` returns in a process of its own, whose temporary files go to `scratch`.

    `function` is a module's; what it is given is pickled; what it returns is JSON of the type `returns`. Raises its
    SpecErrors; Exceeded(where) that says which bound was met; SpecError(where) that says how it broke; or OSError of
    the system's.
    """
    receiving, sending = _context.Pipe(duplex=False)
    process = _context.Process(target=_child, args=(function, given, sending, bounds, scratch), daemon=True)
    with receiving:
        with sending, _lock, _without_main():
            process.start()
            _alive.add(process)
        try:
            in_time = connection.wait([receiving], PATIENCE * bounds.cpu_s)
            raw = _received(receiving) if in_time else None
        finally:
            code = _end(process, 1.0 if in_time else 0.0)
    if raw is None:
        raise _met(where, code, bounds) if in_time else Exceeded(where, _too_long(f"{PATIENCE * bounds.cpu_s} s"))
    kind: Any = returns
    answer = _adapter(_Answer).validate_json(raw)
    if answer.kind == "result":
        found: T = _adapter(kind).validate_python(answer.result)
        return found
    if answer.kind == "fault":
        raise SpecErrors([SpecError(*one) for one in answer.faults])
    if answer.kind == "system" and answer.errno != errno.EFBIG:
        raise OSError(answer.errno, os.strerror(answer.errno))
    if answer.kind == "bug":
        log.error("a reader failed: %s", answer.message)
        raise SpecError(where, "reading it failed in a way that we have not foreseen: give it as plain UTF-8 CSV")
    raise Exceeded(where, _too_large(bounds) if answer.kind == "memory" else _too_much(bounds))


def stop() -> None:
    """End all readers of this process: those who asked get an error."""
    with _lock:
        for process in _alive:
            process.kill()


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@contextmanager
def _without_main() -> Iterator[None]:
    """Or every child would first run the script that this process was started with."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _received(pipe: connection.Connection) -> bytes | None:
    try:
        return pipe.recv_bytes(MAX_ANSWER)
    except (EOFError, OSError):  # it has ended before it could answer, or says too much
        return None


def _end(process: BaseProcess, patience_s: float) -> int:
    """The exit code, once the process is gone."""
    with _lock:
        process.join(patience_s)
        process.kill()
        process.join()
        _alive.discard(process)
        code = process.exitcode
        process.close()
    return code or 0


def _met(where: str, code: int, bounds: Bounds) -> SpecError:
    """What ended a reader that did not answer."""
    if code == -signal.SIGXCPU:
        return Exceeded(where, _too_long(f"{bounds.cpu_s} s of CPU"))
    if code in (-signal.SIGABRT, -signal.SIGKILL):  # C++ without memory; the system without any
        return Exceeded(where, _too_large(bounds))
    return SpecError(
        where, f"reading it broke the reader (exit code {code}): it is damaged; save it again, as plain UTF-8 CSV say"
    )


def _too_long(what: str) -> str:
    return f"reading it took more than {what}: give fewer rows or columns, or lists as plain text"


def _too_large(bounds: Bounds) -> str:
    return f"reading it took more than {bounds.memory_bytes // MIB:,} MiB of memory: give fewer rows or columns"


def _too_much(bounds: Bounds) -> str:
    return f"it unpacks to more than {bounds.file_bytes // MIB:,} MiB: give fewer rows or columns"


# --- in the child -------------------------------------------------------------------------------------------


def _child(function: Callable[..., Any], given: tuple[Any, ...], sending: Any, bounds: Bounds, scratch: Path) -> None:
    import pyarrow as pa

    die_with_parent()  # the server that it is forked from
    Thread(target=_end_with, args=(parent_process(),), daemon=True).start()
    pa.set_memory_pool(pa.system_memory_pool())  # others reserve a GiB at once, which would count
    _bound(bounds)
    os.chdir(scratch)
    tempfile.tempdir = str(scratch)
    sending.send_bytes(to_json(_answer(function, given)))
    os._exit(0)


def _end_with(asking: Any) -> None:
    connection.wait([asking.sentinel])
    os._exit(1)


def _bound(bounds: Bounds) -> None:
    memory = _data_bytes() + bounds.memory_bytes
    for kind, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_CPU, bounds.cpu_s, bounds.cpu_s + 1),
        (resource.RLIMIT_FSIZE, bounds.file_bytes, bounds.file_bytes),
        (resource.RLIMIT_DATA, memory, memory),
    ):
        resource.setrlimit(kind, (soft, hard))


def _data_bytes() -> int:
    """What RLIMIT_DATA counts."""
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmData:") + 1]) * 1024


def _answer(function: Callable[..., Any], given: tuple[Any, ...]) -> _Answer:
    try:
        return _Answer("result", function(*given))
    except SpecError as error:
        return _Answer("fault", faults=[(one.field, one.message) for one in error.faults])
    except OSError as error:
        if error.errno is not None:
            return _Answer("system", errno=error.errno)
        return _Answer("bug", message=traceback.format_exc()[-10_000:])
    except Exception as error:
        if is_full(error):
            return _Answer("memory")
        return _Answer("bug", message=traceback.format_exc()[-10_000:])
