"""Stored files are read again: rot is found, counted, and handed to nobody."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select

from core.ledger import tallies
from core.ledger.files.s3 import S3Storage
from core.ledger.files.storage import LocalStorage, Storage
from core.ledger.jobs import attempts, claims
from core.ledger.tables import Dataset
from tests.worker.conftest import House
from worker import scrub
from worker.scrub import Scrub


@pytest.fixture(params=["folder", "s3"])
def storage(house: House, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    monkeypatch.setattr(scrub, "FILE_S", 0.0)
    monkeypatch.setattr(scrub, "BATCH", 3)
    if request.param == "folder":
        return house.storage
    storage = S3Storage(request.getfixturevalue("s3_url"))
    with house.database.read() as session:
        for name in session.scalars(select(Dataset.sha256)):
            house.storage.fetch(name, tmp_path / "copy")
            storage.put(tmp_path / "copy")
    return storage


def change(storage: Storage, sha256: str, content: bytes | None) -> None:
    """What a disk may do to a file."""
    if isinstance(storage, LocalStorage):
        storage.path(sha256).unlink() if content is None else storage.path(sha256).write_bytes(content)
    else:
        assert isinstance(storage, S3Storage)
        at = {"Bucket": storage.bucket, "Key": storage.prefix + sha256}
        storage._s3.delete_object(**at) if content is None else storage._s3.put_object(**at, Body=content)


@pytest.mark.field("3. Under attack", "a stored file with a flipped byte", "found by the scrub, set aside, told")
def test_rot_is_found_and_set_aside(house: House, storage: Storage, tmp_path: Path) -> None:
    job_id = house.new_job()
    names = []
    for i in range(8):
        (tmp_path / "file").write_bytes(b"content %d" % i)
        names.append(storage.put(tmp_path / "file")[0])
    outputs = {str(i): (name, 9) for i, name in enumerate(names)}
    with house.database.begin() as session:
        claims.claim(session, job_id, "w", 60)
        attempts.succeed(session, job_id, 1, {}, outputs)
        others = 1  # the job's data set
    watch = Scrub(house.database, storage, threading.Event())
    assert watch.round() == {"whole": 8 + others}
    change(storage, names[0], b"content X")  # a byte was turned
    change(storage, names[1], b"conten")  # cut short
    change(storage, names[2], None)
    assert watch.round() == {"whole": 5 + others, "damaged": 2, "missing": 1}
    for name in names[:3]:
        with pytest.raises(FileNotFoundError):
            storage.open(name)
    with house.database.read() as session:
        told = {label: count for label, (count, _) in tallies.totals(session, "scrub").items()}
    assert told == {"whole": 13 + 2 * others, "damaged": 2, "missing": 1}
    for i in range(3):  # put back
        (tmp_path / "file").write_bytes(b"content %d" % i)
        assert storage.put(tmp_path / "file")[0] == names[i]
    assert watch.round() == {"whole": 8 + others}


def test_it_ends_when_told(house: House, storage: Storage) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=Scrub(house.database, storage, stop).run)
    thread.start()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_storage_that_is_away_harms_no_file(house: House, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_sha256: str, _pace: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(storage, "check", away)
        with pytest.raises(PermissionError):
            Scrub(house.database, storage, threading.Event()).round()
    assert Scrub(house.database, storage, threading.Event()).round() == Counter(whole=1)
