"""A zip of stored files of which any part can be sent, and is the same bytes each time.

Nothing is compressed and every date is that of the format's beginning, so that all but the checksums is known before a
file is read. A checksum is at hand once its file has been sent whole by this process; else the file is read for it, a
chunk at a time, each of which is told as one of no bytes: between two of them, whoever asked may have gone.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TypeVar
from zipfile import ZIP64_LIMIT, ZipInfo

Read = Callable[[int, int], Iterator[bytes]]  # the bytes of a file from ... up to
T = TypeVar("T")
Found = Generator[bytes, None, T]  # what is known once files have been read

FLAGS = 0x808  # names in UTF-8; the checksum follows the content
OLD, ZIP64 = 20, 45  # what it takes to read it
UNIX, MODE = 3, 0o100644 << 16
FIRST_DAY = 0, 33  # 1980-01-01 00:00
MAX_16, MAX_32 = 0xFFFF, 0xFFFFFFFF
MAX_KNOWN = 10_000
_known: dict[str, int] = {}  # sha256 -> CRC-32


@dataclass(frozen=True)
class Entry:
    """A file of the archive."""

    path: str
    size: int
    sha256: str
    read: Read

    @property
    def wide(self) -> bool:
        """Whether its size takes 64 bits."""
        return self.size > ZIP64_LIMIT

    def head(self) -> bytes:
        """What stands before its content."""
        info = ZipInfo(self.path)
        info.flag_bits = FLAGS
        return info.FileHeader(self.wide)

    def tail(self) -> Found[bytes]:
        """What stands behind it."""
        checksum = yield from self.checksum()
        return struct.pack("<4sLQQ" if self.wide else "<4sLLL", b"PK\x07\x08", checksum, self.size, self.size)

    @property
    def tail_size(self) -> int:
        """Bytes of it."""
        return 24 if self.wide else 16

    def content(self, start: int, end: int) -> Iterator[bytes]:
        """A part of the file."""
        checksum = 0
        for chunk in self.read(start, end):
            checksum = zlib.crc32(chunk, checksum)
            yield chunk
        if (start, end) == (0, self.size):
            self._keep(checksum)

    def checksum(self) -> Found[int]:
        """CRC-32 of the file."""
        if self.size == 0:  # whose content nobody asks for
            return 0
        if (known := _known.get(self.sha256)) is None:
            known = 0
            for chunk in self.read(0, self.size):
                known = zlib.crc32(chunk, known)
                yield b""
            self._keep(known)
        return known

    def _keep(self, checksum: int) -> None:
        while len(_known) >= MAX_KNOWN:
            _known.pop(next(iter(_known)), None)
        _known[self.sha256] = checksum

    def listed(self, offset: int, checksum: int) -> bytes:
        """Its line in the list at the end."""
        wide = [self.size, self.size] * self.wide + [offset] * (offset > ZIP64_LIMIT)
        extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        name, size = self.path.encode(), MAX_32 if self.wide else self.size
        version, place = ZIP64 if wide else OLD, MAX_32 if offset > ZIP64_LIMIT else offset
        what = struct.pack("<4s2B5H", b"PK\x01\x02", version, UNIX, version, FLAGS, 0, *FIRST_DAY)
        sizes = struct.pack("<3L3H", checksum, size, size, len(name), len(extra), 0)
        return what + sizes + struct.pack("<2H2L", 0, 0, MODE, place) + name + extra


class Archive:
    """The zip of some files."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self._offsets = [0, *accumulate(len(one.head()) + one.size + one.tail_size for one in entries)]
        self._list_size = len(self._list([0] * len(entries)))
        self.size = self._offsets[-1] + self._list_size

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes of the archive from `start` up to `end`."""
        place = 0
        for size, read in self._pieces():
            if start < place + size and place < end:
                yield from read(max(start - place, 0), min(end - place, size))
            place += size

    def _pieces(self) -> Iterator[tuple[int, Read]]:
        for entry in self.entries:
            head = entry.head()
            yield len(head), partial(_part, head)
            yield entry.size, entry.content
            yield entry.tail_size, _part_of(entry.tail)
        yield self._list_size, _part_of(self._whole_list)

    def _whole_list(self) -> Found[bytes]:
        checksums = []
        for entry in self.entries:
            checksums.append((yield from entry.checksum()))
        return self._list(checksums)

    def _list(self, checksums: Sequence[int]) -> bytes:
        """What stands at the end: where each file is, and where this list begins."""
        begin, count = self._offsets[-1], len(self.entries)
        lines = b"".join(one.listed(*rest) for one, *rest in zip(self.entries, self._offsets, checksums, strict=False))
        end = begin + len(lines)
        wide = b""
        if count >= MAX_16 or begin > ZIP64_LIMIT:
            wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, ZIP64, ZIP64, 0, 0, count, count, len(lines), begin)
            wide += struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
        few = min(count, MAX_16), min(count, MAX_16), len(lines), MAX_32 if begin > ZIP64_LIMIT else begin
        return lines + wide + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, *few, 0)


def _part(content: bytes, start: int, end: int) -> Iterator[bytes]:
    yield content[start:end]


def _part_of(find: Callable[[], Found[bytes]]) -> Read:
    def read(start: int, end: int) -> Iterator[bytes]:
        found = yield from find()
        yield from _part(found, start, end)

    return read
