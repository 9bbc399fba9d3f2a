"""The pictures of a column, as they come: each is looked at once, and what is said of all of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from core.rows.faults import fault, shown
from core.rows.image.decode import CHANGES, ENDINGS, Looked, format_of, look, quietly
from core.rows.image.picture import picture_type

if TYPE_CHECKING:
    import pyarrow as pa

MOST_FAULTS = 100  # pictures that cannot be read, before the rest is not looked at
SAID_FAULTS = 5


class Gallery:
    """Counts of what was seen, and what is wrong, in words that name each picture."""

    def __init__(self) -> None:
        self.formats: Counter[str] = Counter()
        self.sizes: tuple[int, int, int, int] | None = None  # least and most width, least and most height
        self._changed: dict[str, tuple[int, str]] = {}  # how many, and the first of them
        self._misnamed: tuple[int, str] = (0, "")
        self._faults: list[str] = []
        self._cells: list[dict[str, Any] | None] = []
        self.waiting_bytes = 0

    def add(self, data: bytes | None, path: str | None, place: str) -> None:
        """Look at a picture; `place` is what a fault calls it. Without bytes it is none."""
        if data is None:
            self._cells.append(None)
            return
        try:
            with quietly():
                found = look(data)
        except ValueError as error:
            self._cells.append(None)
            self._faults.append(f"{place} {error}")
            if len(self._faults) >= MOST_FAULTS:
                self.check()
            return
        self._count(found, path, place)
        self.waiting_bytes += len(data)
        self._cells.append(
            {
                "bytes": data,
                "path": path,
                "digest": found.digest,
                "width": found.width,
                "height": found.height,
                "format": found.format,
            }
        )

    def taken(self) -> pa.Array:
        """The cells that came since the last time."""
        import pyarrow as pa

        cells, self._cells, self.waiting_bytes = self._cells, [], 0
        return pa.array(cells, picture_type())

    def check(self) -> None:
        """Raise SpecError that names the pictures that cannot be read."""
        if not self._faults:
            return
        many, total = len(self._faults), len(self._faults) + sum(self.formats.values())
        said = "; ".join(self._faults[:SAID_FAULTS])
        if many == 1:
            raise fault(f"has a picture that cannot be read: {said}; or leave it out")
        more = f"; and {many - SAID_FAULTS} more" if many > SAID_FAULTS else ""
        raise fault(f"has {many:,} pictures of {total:,} that cannot be read: {said}{more}; or leave them out")

    def notes(self, column: str) -> list[str]:
        """What was understood, in sentences."""
        if self.sizes is None:
            return []
        narrow, wide, low, high = self.sizes
        least, most = (f"{width:,} x {height:,}" for width, height in ((narrow, low), (wide, high)))
        size = least if least == most else f"{least} to {most}"
        total = sum(self.formats.values())
        counts = ", ".join(f"{count:,} {name}" for name, count in self.formats.most_common())
        found = [f"Column '{shown(column)}': {_count(total)} ({counts}) of {size} pixels."]
        for change, (count, first) in self._changed.items():
            found.append(f"{_count(count)} {'is' if count == 1 else 'are'} {CHANGES[change]} (first: {first}).")
        if (count := self._misnamed[0]) > 0:
            says = "has another format than its name says" if count == 1 else "have another format than their names say"
            found.append(f"{_count(count)} {says} (first: {self._misnamed[1]}).")
        return found

    def _count(self, found: Looked, path: str | None, place: str) -> None:
        self.formats[found.format] += 1
        width, height = found.width, found.height
        narrow, wide, low, high = self.sizes or (width, width, height, height)
        self.sizes = min(narrow, width), max(wide, width), min(low, height), max(high, height)
        for change in found.changes:
            count, first = self._changed.get(change, (0, place))
            self._changed[change] = count + 1, first
        named = format_of(path or "")
        if named in ENDINGS.values() and named != found.format:
            count, first = self._misnamed
            self._misnamed = count + 1, first or place


def _count(number: int) -> str:
    return "1 picture" if number == 1 else f"{number:,} pictures"
