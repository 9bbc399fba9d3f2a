"""Folders for the time of a request, which go with it, or at the next start where the process was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import util
from pathlib import Path

from core.ledger.settings import Settings


@contextmanager
def scratch(settings: Settings) -> Iterator[Path]:
    """A folder of this process alone, empty at first, gone with the block."""
    root = settings.scratch_dir.resolve()
    root.mkdir(parents=True, exist_ok=True)
    with _held(root, fcntl.LOCK_SH):  # `sweep` must not come between the folder and its lock
        folder = Path(tempfile.mkdtemp(dir=root))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextmanager
def for_all(settings: Settings) -> Iterator[None]:
    """Have every temporary file of this process made there: elsewhere they may lie in memory.

    But for the sockets of `multiprocessing`, whose paths have to be short, and which `sweep` must not find.
    """
    util.get_temp_dir()
    settings.scratch_dir.mkdir(parents=True, exist_ok=True)
    before, tempfile.tempdir = tempfile.tempdir, str(settings.scratch_dir.resolve())
    try:
        yield
    finally:
        tempfile.tempdir = before


def sweep(settings: Settings) -> None:
    """Remove what processes that were killed have left; those that live keep theirs."""
    root = settings.scratch_dir
    if not root.is_dir():
        return
    with _held(root, fcntl.LOCK_EX):
        for folder in root.iterdir():
            try:
                with _held(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    shutil.rmtree(folder, ignore_errors=True)
            except (BlockingIOError, FileNotFoundError):
                continue


@contextmanager
def _held(folder: Path, how: int) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)
