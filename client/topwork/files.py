"""Downloads: continued where they were cut, checked by sha256, never outside the folder, nothing of others beside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import httpx

from topwork.errors import ApiError, TopworkError
from topwork.models import OutputFile
from topwork.requests import TRIES, away, backoff, refused
from topwork.steps import Fetch, Pause, Steps, Work

MANIFEST = "manifest.json"
FEW = 5  # names in a message


def save(files: Sequence[OutputFile], folder: Path, size: str | None) -> Steps[dict[str, str]]:
    """Every file into `folder`, checked; path -> sha256. Files that are there already are kept."""
    if size is not None:
        files = _of_size(files, size)
    sums = {file.path: file.sha256 for file in files}
    kept, others = yield Work(lambda: _look(folder, sums))
    if others:
        told = ", ".join(others[:FEW]) + (", ..." if len(others) > FEW else "")
        raise TopworkError(f"{folder} holds files that are not of this job: {told}; choose another folder")
    for file in files:
        if file.path not in kept:
            yield from _fetch(file.href, file.sha256, folder / _safe(file.path))
    if MANIFEST in sums:
        named: Mapping[str, str] = json.loads((folder / MANIFEST).read_bytes())["files"]
        if wrong := sorted(path for path, sha256 in named.items() if sums.get(path) != sha256):
            raise TopworkError(f"{MANIFEST} names another content for: {', '.join(wrong)}")
    return sums


def _fetch(href: str, sha256: str, target: Path) -> Steps[None]:
    """Continue what `target`.part holds, check the sha256, then give it its name."""
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(TRIES):
        try:
            yield from _continue(href, sha256, part)
        except (httpx.TransportError, ApiError) as error:
            passing = not isinstance(error, ApiError) or error.status == 429 or (error.status or 0) >= 500
            if attempt == TRIES - 1 or not passing:
                raise error if isinstance(error, ApiError) else away(error) from error
            yield Pause(backoff(attempt))
            continue
        if (yield Work(lambda: file_sha256(part))) == sha256:
            part.replace(target)
            return
        part.unlink()  # damaged on the way, or left over from another file: once more, from the start
    raise TopworkError(f"{target.name}: what arrives is not what the server names (sha256 {sha256}); try again later")


def _continue(href: str, sha256: str, part: Path) -> Steps[None]:
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-", "If-Range": f'"{sha256}"'} if have else {}
    answer: httpx.Response = yield Fetch(href, headers | {"Accept-Encoding": "identity"}, part)
    if answer.status_code not in (200, 206, 416):  # 416: all of it is there already
        raise refused(answer)


def _of_size(files: Sequence[OutputFile], size: str) -> list[OutputFile]:
    """Those in the folder of a size, by their paths in it."""
    inside = [file for file in files if file.path.startswith(f"{size}/")]
    if not inside:
        known = sizes(files)
        told = f"its sizes are {', '.join(known)}" if known else "it has one size alone: leave the size out"
        raise TopworkError(f"the job has no size {size!r}: {told}")
    return [file.model_copy(update={"path": file.path.removeprefix(f"{size}/")}) for file in inside]


def sizes(files: Iterable[OutputFile]) -> list[str]:
    """Folders of a job of several sizes."""
    return sorted(file.path.removesuffix(f"/{MANIFEST}") for file in files if file.path.endswith(f"/{MANIFEST}"))


def _look(folder: Path, sums: Mapping[str, str]) -> tuple[set[str], list[str]]:
    """Files in the folder that are there already, and those of others; what was cut off is neither."""
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    kept = {name for name, path in there.items() if name in sums and file_sha256(path) == sums[name]}
    ours = {*kept, *(f"{name}.part" for name in sums)}
    return kept, sorted(name for name in there if name not in ours)


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _safe(path: str) -> PurePosixPath:
    """A path that the server names, if it stays inside the folder."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or not pure.parts:
        raise TopworkError(f"the server names a file outside the folder: {path!r}")
    return pure
