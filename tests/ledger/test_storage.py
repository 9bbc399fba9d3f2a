"""Files by their sha256 on a local disk."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.ledger.storage import LocalStorage


def put(storage: LocalStorage, folder: Path, content: bytes) -> str:
    source = folder / hashlib.md5(content).hexdigest()
    source.write_bytes(content)
    sha256, size = storage.put(source)
    assert (sha256, size) == (hashlib.sha256(content).hexdigest(), len(content))
    return sha256


def everything(storage: LocalStorage) -> list[str]:
    return sorted(path.name for path in storage.root.rglob("*") if path.is_file())


def test_what_was_put_can_be_read_and_fetched(storage: LocalStorage, tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    sha256 = put(storage, tmp_path, content)
    with storage.open(sha256) as data:
        assert data.read() == content
    storage.fetch(sha256, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content


def test_the_same_content_is_kept_once_even_when_put_at_once(storage: LocalStorage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"same" * 100_000)
    with ThreadPoolExecutor(8) as pool:
        results = set(pool.map(lambda _: storage.put(source), range(8)))
    assert len(results) == 1
    assert everything(storage) == [results.pop()[0]]


def test_a_put_that_fails_leaves_nothing(storage: LocalStorage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        storage.put(tmp_path / "missing")
    assert everything(storage) == []


def test_a_damaged_file_is_noticed_and_mended_by_putting_it_again(storage: LocalStorage, tmp_path: Path) -> None:
    sha256 = put(storage, tmp_path, b"content")
    storage.path(sha256).write_bytes(b"c0ntent")
    with pytest.raises(OSError, match="damaged"):
        storage.fetch(sha256, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    put(storage, tmp_path, b"content")
    storage.fetch(sha256, tmp_path / "copy")


@pytest.mark.parametrize("name", ["0" * 64, "../../etc/passwd", "", "A" * 64, "0" * 63])
def test_what_is_not_there_is_not_found(storage: LocalStorage, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.open(name)


def test_delete_forgets_and_may_be_repeated(storage: LocalStorage, tmp_path: Path) -> None:
    sha256 = put(storage, tmp_path, b"content")
    storage.delete(sha256)
    storage.delete(sha256)
    with pytest.raises(FileNotFoundError):
        storage.open(sha256)


def test_a_sweep_takes_old_files_that_nobody_uses(storage: LocalStorage, tmp_path: Path) -> None:
    used, unused, young = (put(storage, tmp_path, content) for content in (b"used", b"unused", b"young"))
    left_behind = storage.root / ".put-killed"
    left_behind.write_bytes(b"half a file")
    for path in (storage.path(used), storage.path(unused), left_behind):
        os.utime(path, (1, 1))
    assert storage.sweep(lambda names: {used} & set(names), older_than_s=3600) == 1
    assert everything(storage) == sorted([used, young])
    os.utime(storage.path(young), (1, 1))
    put(storage, tmp_path, b"young")  # put again: in use again soon, though no row says so yet
    assert storage.sweep(lambda names: {used} & set(names), older_than_s=3600) == 0
