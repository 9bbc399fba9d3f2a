"""Targets, and what a user of a cell has: labelled rows and texts without labels; and the rows all are measured on."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.transfer.data import Row, read, write

TEST = 1000  # or half of what is not labelled, if that is less
TEXTS = 5000  # without labels
DEV = 4  # of so many labelled rows of a class one is held back, by those that select by rows
EACH = 8  # this number of rows is of each class, any other of all together


@dataclass(frozen=True)
class Target:
    """A table, and what is measured on it; `positive`: whose F1."""

    table: str
    positive: str | None = None
    rows: tuple[int, ...] = (EACH, 100, 1000)


TARGETS = {
    one.table: one
    for one in (
        Target("products"),
        Target("yelp", rows=(EACH, 100)),  # it has 1,000
        Target("sms", positive="spam"),
        Target("tweets"),
        Target("reuters"),
        Target("news"),
    )
}


def told(rows: int) -> str:
    """So many labelled rows, in words."""
    return f"{rows} labelled rows of each class" if rows == EACH else f"{rows:,} labelled rows"


@dataclass(frozen=True)
class Given:
    """Rows of a cell. No text is in two of the parts."""

    train: Sequence[Row]
    dev: Sequence[Row]
    test: Sequence[Row]
    texts: Sequence[str]

    @property
    def labelled(self) -> list[Row]:
        """All that have labels, for those that hold none back."""
        return [*self.train, *self.dev]

    @property
    def labels(self) -> list[str]:
        """In order."""
        return sorted({label for _, label in self.labelled})

    def tables(self, folder: Path) -> dict[str, Path]:
        """As Parquet files: train, dev, test, texts."""
        files = {name: folder / f"{name}.parquet" for name in ("train", "dev", "test", "texts")}
        for name in ("train", "dev", "test"):
            write(files[name], getattr(self, name))
        write(files["texts"], [(text, "") for text in self.texts])
        return files


def given(table: Path, rows: int, seed: int) -> Given:
    """Draw the test rows, at random, then labelled ones: EACH of each class, or in proportion, three at least."""
    once = {" ".join(text.lower().split()): (text, label) for text, label in read(table)}
    drawn = [once[key] for key in sorted(once)]
    random.Random(seed).shuffle(drawn)
    count = min(TEST, (len(drawn) - rows) // 2)
    test, rest = drawn[:count], drawn[count:]
    by_label = defaultdict[str, list[Row]](list)
    for row in rest:
        by_label[row[1]].append(row)
    counts = {label: max(3, round(rows * len(found) / len(rest))) for label, found in sorted(by_label.items())}
    chosen = [by_label[label][: EACH if rows == EACH else count] for label, count in counts.items()]
    dev = [row for found in chosen for row in found[::DEV]]
    train = [row for found in chosen for i, row in enumerate(found) if i % DEV]
    taken = {*dev, *train}
    return Given(train, dev, test, [row[0] for row in rest if row not in taken][:TEXTS])
