"""The contract of storage, on a local disk and in S3."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from core.ledger.files.s3 import S3Storage
from core.ledger.files.storage import LocalStorage, Storage, StorageAwayError
from core.ledger.files.stores import open_storage
from core.ledger.settings import Settings
from tests.conftest import every_storage


def put(storage: Storage, folder: Path, content: bytes) -> str:
    source = folder / hashlib.md5(content).hexdigest()
    source.write_bytes(content)
    sha256, size = storage.put(source)
    assert (sha256, size) == (hashlib.sha256(content).hexdigest(), len(content))
    return sha256


def s3_objects(storage: S3Storage) -> dict[str, Any]:
    """What the test's S3 server holds: objects by key, None by the id of an upload that is not complete."""
    from moto.backends import get_backend

    bucket = get_backend("s3")["123456789012"]["aws"].buckets[storage.bucket]
    return {key: bucket.keys[key] for key in bucket.keys} | dict.fromkeys(bucket.multiparts)


def everything(storage: Storage) -> list[str]:
    if isinstance(storage, S3Storage):
        return sorted(key.removeprefix("top/work/") for key in s3_objects(storage))
    assert isinstance(storage, LocalStorage)
    return sorted(path.name for path in storage.root.rglob("*") if path.is_file())


def damage(storage: Storage, sha256: str, content: bytes) -> None:
    if isinstance(storage, S3Storage):
        storage._s3.put_object(**storage._at(sha256), Body=content)
    else:
        assert isinstance(storage, LocalStorage)
        storage.path(sha256).write_bytes(content)


def age(storage: Storage, *names: str) -> None:
    for sha256 in names:
        if isinstance(storage, S3Storage):
            s3_objects(storage)[f"top/work/{sha256}"].last_modified = datetime(2000, 1, 1, tzinfo=UTC)
        else:
            assert isinstance(storage, LocalStorage)
            os.utime(storage.path(sha256), (1, 1))


@every_storage
def test_what_was_put_can_be_read_and_fetched(storage: Storage, tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    sha256 = put(storage, tmp_path, content)
    with storage.open(sha256) as data:
        assert data.read() == content
    storage.fetch(sha256, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content


@every_storage
def test_an_open_file_is_read_from_any_place(storage: Storage, tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    with storage.open(put(storage, tmp_path, content)) as data:
        for place, size in ((2_000_000, 10), (5, 2_500_000), (len(content) - 3, 100), (len(content) + 9, 1), (0, 0)):
            assert data.seek(place) == place
            assert data.read(size) == content[place : place + size]
        assert data.seek(-4, io.SEEK_END) == data.tell() == len(content) - 4
        assert data.read() == content[-4:] and data.read() == b""
    with storage.open(put(storage, tmp_path, b"")) as data:
        assert data.read() == b""


@every_storage
def test_the_same_content_is_kept_once_even_when_put_at_once(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"same" * 100_000)
    with ThreadPoolExecutor(8) as pool:
        results = set(pool.map(lambda _: storage.put(source), range(8)))
    assert len(results) == 1
    assert everything(storage) == [results.pop()[0]]


def test_a_name_is_on_the_disk_before_anybody_hears_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(Path(f"/proc/self/fd/{handle}").readlink()))
    storage = LocalStorage(tmp_path / "blobs")
    final = storage.path(put(storage, tmp_path, b"a"))
    assert synced[1:] == list(final.parents)[:3]  # after the file itself, under its first name


@every_storage
def test_a_put_that_fails_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        storage.put(tmp_path / "missing")
    assert everything(storage) == []


@every_storage
def test_a_damaged_file_is_noticed_and_mended_by_putting_it_again(storage: Storage, tmp_path: Path) -> None:
    sha256 = put(storage, tmp_path, b"content")
    damage(storage, sha256, b"c0ntent")
    with pytest.raises(OSError, match="damaged"):
        storage.fetch(sha256, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    put(storage, tmp_path, b"content")
    storage.fetch(sha256, tmp_path / "copy")


@every_storage
def test_what_is_set_aside_is_found_no_more_and_may_be_gone_before(storage: Storage, tmp_path: Path) -> None:
    sha256 = put(storage, tmp_path, b"content")
    for _ in range(2):
        storage.set_aside(sha256)
        assert everything(storage) in ([sha256], [f"damaged/{sha256}"])
        with pytest.raises(FileNotFoundError):
            storage.open(sha256)


@every_storage
@pytest.mark.parametrize("name", ["0" * 64, "../../etc/passwd", "", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_what_is_not_there_is_not_found(storage: Storage, name: str) -> None:
    if isinstance(storage, LocalStorage):
        storage.root.mkdir(parents=True, exist_ok=True)
    with pytest.raises(FileNotFoundError):
        storage.open(name)


def test_a_folder_that_is_not_mounted_is_away_and_not_empty(tmp_path: Path) -> None:
    with pytest.raises(StorageAwayError):
        LocalStorage(tmp_path / "away").open("0" * 64)
    assert LocalStorage(tmp_path / "away").sweep(lambda _names: set(), 0) == 0


def test_a_sweep_goes_by_the_clock_that_dates_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(tmp_path / "blobs")
    sha256 = put(storage, tmp_path, b"content")
    monkeypatch.setattr("time.time", lambda: 4e9)  # this process's is years ahead
    assert storage.sweep(lambda _names: set(), older_than_s=3600) == 0
    storage.open(sha256).close()


@every_storage
def test_delete_forgets_and_may_be_repeated(storage: Storage, tmp_path: Path) -> None:
    sha256 = put(storage, tmp_path, b"content")
    storage.delete(sha256)
    storage.delete(sha256)
    with pytest.raises(FileNotFoundError):
        storage.open(sha256)


@every_storage
def test_a_sweep_takes_old_files_that_nobody_uses(storage: Storage, tmp_path: Path) -> None:
    used, unused, young = (put(storage, tmp_path, content) for content in (b"used", b"unused", b"young"))
    if isinstance(storage, LocalStorage):
        left_behind = storage.root / ".put-killed"
        left_behind.write_bytes(b"half a file")
        os.utime(left_behind, (1, 1))
    age(storage, used, unused)
    assert storage.sweep(lambda names: {used} & set(names), older_than_s=3600) == 1
    assert everything(storage) == sorted([used, young])
    age(storage, young)
    put(storage, tmp_path, b"young")  # put again: in use again soon, though no row says so yet
    assert storage.sweep(lambda names: {used} & set(names), older_than_s=3600) == 0


@every_storage
def test_a_sweep_spares_what_is_put_again_while_it_looks(storage: Storage, tmp_path: Path) -> None:
    sha256 = put(storage, tmp_path, b"content")
    age(storage, sha256)

    def in_use(_names: object) -> set[str]:
        put(storage, tmp_path, b"content")
        return set()

    assert storage.sweep(in_use, older_than_s=3600) == 0
    assert everything(storage) == [sha256]


@pytest.mark.parametrize("url", ["s3://", "s3://Bucket", "s3://x", "/data", "https://host/bucket", "s3://bucket/a?b=c"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="storage_url"):
        Settings(storage_url=url)


def test_without_boto3_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.delitem(sys.modules, "core.ledger.files.s3")
    with pytest.raises(ModuleNotFoundError, match=r"pip install -e '\.\[s3\]'"):
        open_storage(Settings(storage_url="s3://bucket"))
