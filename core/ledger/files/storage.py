"""Content-addressed storage: a file is put once and found by its sha256."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 20
DAMAGED = "damaged"  # folder


class StorageAwayError(OSError):
    """The storage, or a hub, cannot be used for now: why, in words that name no address, bucket or key."""


class DamagedError(OSError):
    """A stored file is not what its name says."""


class Storage(ABC):
    """Files by the sha256 of their content. Every method may raise OSError: no space, no access, no network."""

    @abstractmethod
    def put(self, source: Path) -> tuple[str, int]:
        """Store a copy of `source`; returns (sha256, size in bytes). Storing the same content again is harmless."""

    @abstractmethod
    def open(self, sha256: str) -> BinaryIO:
        """Read a stored file, from any place in it; raises FileNotFoundError."""

    @abstractmethod
    def delete(self, sha256: str) -> None:
        """Forget a file; no error if it is not there."""

    @abstractmethod
    def sweep(self, in_use: Callable[[Sequence[str]], Set[str]], older_than_s: float) -> int:
        """Delete files put longer ago than `older_than_s` that `in_use` does not return; returns how many.

        The age protects a file whose row is not committed yet; to put the same content again makes it young.
        """

    @abstractmethod
    def set_aside(self, sha256: str) -> None:
        """Put a damaged file where nothing finds it but the operator: `damaged/SHA256`."""

    def check(self, sha256: str, pace: Callable[[int], object]) -> None:
        """Read a stored file, `pace` called with the bytes of each piece; raises FileNotFoundError, DamagedError."""
        digest = hashlib.sha256()
        with self.open(sha256) as data:
            while chunk := data.read(CHUNK):
                digest.update(chunk)
                pace(len(chunk))
        if digest.hexdigest() != sha256:
            raise DamagedError(f"stored file {sha256} is damaged")

    def fetch(self, sha256: str, target: Path) -> None:
        """Copy a stored file to `target`, checking its content; raises FileNotFoundError, DamagedError or OSError."""
        with self.open(sha256) as data, target.open("wb") as out:
            shutil.copyfileobj(data, out, CHUNK)
        if file_sha256(target) != sha256:
            target.unlink()
            raise DamagedError(f"stored file {sha256} is damaged")

    def local(self, sha256: str, folder: Path) -> Path:
        """A file of this machine with the content, to read only; maybe a copy in `folder`. Raises as `fetch` does."""
        copy = folder / check_name(sha256)
        self.fetch(sha256, copy)
        return copy

    def link(self, sha256: str, headers: dict[str, str]) -> str | None:
        """A URL by which anybody may read the file for a while, answered with these headers; None: there is none."""
        return None


def check_name(sha256: str) -> str:
    """`sha256`, if it is one; raises FileNotFoundError."""
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise FileNotFoundError(sha256)
    return sha256


class LocalStorage(Storage):
    """On a local disk, two levels of folders deep. A file appears whole or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, sha256: str) -> Path:
        """Where the content lies."""
        check_name(sha256)
        return self.root / sha256[:2] / sha256[2:4] / sha256

    def put(self, source: Path) -> tuple[str, int]:
        """See `Storage.put`."""
        self.root.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        handle, name = tempfile.mkstemp(dir=self.root, prefix=".put-")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as out, source.open("rb") as data:
                while chunk := data.read(CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
            final = self.path(digest.hexdigest())
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(final)
            for folder in (final.parent, final.parent.parent, self.root):  # or a power cut could take the name back
                _sync(folder)
        finally:
            temporary.unlink(missing_ok=True)
        return digest.hexdigest(), size

    def open(self, sha256: str) -> BinaryIO:
        """See `Storage.open`."""
        path = self.path(sha256)
        try:
            return path.open("rb")
        except FileNotFoundError:
            if not self.root.is_dir():  # a shared folder that is not mounted
                raise StorageAwayError("the folder of stored files is not there") from None
            raise

    def local(self, sha256: str, folder: Path) -> Path:
        """See `Storage.local`: no copy is needed."""
        self.open(sha256).close()
        return self.path(sha256).resolve()

    def delete(self, sha256: str) -> None:
        """See `Storage.delete`."""
        self.path(sha256).unlink(missing_ok=True)

    def set_aside(self, sha256: str) -> None:
        """See `Storage.set_aside`."""
        folder = self.root / DAMAGED
        folder.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            self.path(sha256).replace(folder / sha256)

    def sweep(self, in_use: Callable[[Sequence[str]], Set[str]], older_than_s: float) -> int:
        """See `Storage.sweep`."""
        if not self.root.is_dir():
            return 0
        with tempfile.NamedTemporaryFile(dir=self.root, prefix=".put-") as probe:  # by the clock that dates the files
            before = os.fstat(probe.fileno()).st_mtime - older_than_s

        def old(path: Path) -> bool:
            try:
                return path.stat().st_mtime < before
            except FileNotFoundError:
                return False

        for temporary in filter(old, self.root.glob(".put-*")):  # left by a process that was killed
            temporary.unlink(missing_ok=True)
        swept = 0
        for folder in self.root.glob("[0-9a-f][0-9a-f]"):
            aged = {path.name: path for path in folder.glob("*/*") if old(path)}
            for name in aged.keys() - in_use(list(aged)) if aged else ():
                if old(aged[name]):
                    aged[name].unlink(missing_ok=True)
                    swept += 1
        return swept


def _sync(folder: Path) -> None:
    """Wait until what the folder holds by name is on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
