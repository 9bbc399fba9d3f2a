"""The files of a zip, by names that lead nowhere else; their bytes within bounds."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Self

from core.rows.faults import fault, shown
from core.rows.files.unpack import check_directory, is_hidden
from core.rows.files.zip_names import encoding_of, name_of
from core.rows.image.decode import MAX_BYTES
from core.spec.errors import SpecError

BROKEN = (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, zlib.error, RuntimeError, ValueError)


class Packed:
    """A zip that is open; raises SpecError('/file') for what of it cannot be read.

    `encoding` is that of names which are not said to be UTF-8.
    """

    def __init__(self, file: Path) -> None:
        check_directory(file)
        self._open = ExitStack()
        with _readable("is not readable as a zip"):
            self._archive = self._open.enter_context(zipfile.ZipFile(file))
            entries = self._archive.infolist()
        self.encoding = encoding_of(entries)
        named = [(name_of(entry, self.encoding), entry) for entry in entries]
        found = [(_plain(name), entry) for name, entry in named if not is_hidden(name)]
        self._files = {name: entry for name, entry in found if not entry.is_dir()}
        self._folders = [name for name, entry in found if entry.is_dir()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def names(self) -> Iterator[str]:
        """Of its files, in the order in which they lie."""
        yield from self._files

    def folders(self) -> Iterator[str]:
        """Those that it names, which may be empty."""
        yield from self._folders

    def check(self, most: int) -> None:
        """Raise SpecError where a name leads out of the zip, or the files are larger than `most` bytes together."""
        for name in (*self._files, *self._folders):
            parts = PurePosixPath(name).parts
            if name.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")):
                raise fault(
                    f"has a file whose name leads out of the zip ('{shown(name)}'); pack the folder again, from inside "
                    "of it"
                )
        if (size := sum(entry.file_size for entry in self._files.values())) > most:
            raise fault(f"unpacks to {size:,} bytes, more than the {most:,} that are read; upload a part of it")

    def picture(self, name: str) -> bytes:
        """The bytes of a picture: one more than it may have, where it has more."""
        return self.content(name, MAX_BYTES + 1)

    def content(self, name: str, most: int) -> bytes:
        """The first `most` bytes of a file."""
        entry = self._files[name]
        if entry.flag_bits & 1:
            raise fault("is a zip with a password; pack it without")
        with _readable(f"'{shown(name)}' cannot be unpacked"), self._archive.open(entry) as data:
            return data.read(most)


def _plain(name: str) -> str:
    """With slashes, as some systems do not write them, and none at the end; without such a start as './'."""
    name = name.replace("\\", "/").rstrip("/")
    return name if name.startswith("/") else str(PurePosixPath(name))


@contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except SpecError:
        raise
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:  # of our disk
            raise
        raise fault(f"{what}: is it cut off? ({shown(error)}); pack the folder again") from error
