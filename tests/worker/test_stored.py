"""What an attempt saves and publishes, where the storage is slow, full, away or damaged."""

from __future__ import annotations

import time
from pathlib import Path
from typing import BinaryIO

import pytest

from core.ledger.files.storage import LocalStorage, StorageAwayError
from core.ledger.jobs import claims, queries
from tests.worker.conftest import House
from tests.worker.supervised import claim
from worker import supervise


def test_of_a_state_only_the_last_stays_in_storage(house: House) -> None:
    job_id = house.new_job("crash late", steps=6)
    claim(house, job_id).run()
    with house.database.read() as session:
        saved = {file.path: file.sha256 for file in queries.files(session, job_id, "state")}
    stored = {path.name for path in house.settings.blobs_dir.rglob("*") if path.is_file()}
    assert saved.keys() == {"step.json", "model.json"}
    assert len(stored) == 3 and {*saved.values()} < stored  # and the data set


class SlowStorage(LocalStorage):
    """Takes as long as the child needs for three saves, of `saves` in all."""

    puts, saves = 0, 11

    def put(self, source: Path) -> tuple[str, int]:
        self.puts += 1
        if source.parent.name.isdecimal():
            later = source.parent.with_name(str(min(int(source.parent.name) + 3, self.saves)))
            while not later.exists():
                time.sleep(0.02)
        return super().put(source)


def test_a_slow_storage_falls_behind_by_one_save_and_no_more(house: House) -> None:
    job_id = house.new_job("crash late", steps=12)
    storage = SlowStorage(house.settings.blobs_dir)
    claim(house, job_id, storage=storage).run()
    assert storage.puts < 8
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"
    assert house.notes(job_id) == ["starting at step 0", "starting at step 11"]


def test_a_damaged_state_is_dropped_and_the_job_starts_afresh(house: House) -> None:
    job_id = house.new_job("crash once")
    claim(house, job_id).run()
    with house.database.read() as session:
        _, saved = queries.files(session, job_id, "state")
    house.storage.path(saved.sha256).write_bytes(b"damaged")
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"
    assert house.notes(job_id)[-1] == "starting at step 0"


class FullStorage(LocalStorage):
    """No space for files of this name."""

    full = "model.safetensors"

    def put(self, source: Path) -> tuple[str, int]:
        if source.name == self.full:
            raise OSError(28, "No space left on device", str(source))
        return super().put(source)


def test_a_full_disk_at_the_end_is_tried_again(house: House) -> None:
    job_id = house.new_job()
    claim(house, job_id, storage=FullStorage(house.settings.blobs_dir)).run()
    assert house.job(job_id).status == "queued"
    assert "No space left on device" in str(house.outcomes(job_id)[0][1])
    assert claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"


def test_a_full_disk_costs_the_job_no_attempt(house: House) -> None:
    """Which its process tells by how it ends."""
    job_id = house.new_job("no room", max_attempts=1)
    supervisor = claim(house, job_id)
    assert not supervisor.run() and supervisor.blameless
    assert house.job(job_id).status == "queued"
    assert house.outcomes(job_id)[0][1] == "the worker could not read or write a file: No space left on device"


class FullFolder(LocalStorage):
    """No space to fetch to."""

    def fetch(self, sha256: str, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))


class LostStorage(LocalStorage):
    """Knows no file."""

    def open(self, sha256: str) -> BinaryIO:
        raise FileNotFoundError(sha256)


@pytest.mark.parametrize(("storage", "left"), [(FullFolder, 1), (LostStorage, 0)])
def test_a_fault_of_the_worker_alone_costs_no_attempt(house: House, storage: type[LocalStorage], left: int) -> None:
    job_id = house.new_job(max_attempts=1)
    supervisor = claim(house, job_id, storage=storage(house.settings.blobs_dir))
    assert not supervisor.run() and supervisor.blameless == bool(left)
    job = house.job(job_id)
    assert (job.status, job.max_attempts - job.attempt) == ("queued" if left else "failed", left)


def test_a_state_that_cannot_be_fetched_for_now_is_kept(house: House) -> None:
    """Only what is gone or damaged is given up."""
    job_id = house.new_job("crash late", steps=4)
    claim(house, job_id).run()
    with house.database.read() as session:
        saved = queries.files(session, job_id, "state")
    claim(house, job_id, storage=FullFolder(house.settings.blobs_dir)).run()
    claim(house, job_id).run()
    assert saved and house.job(job_id).status == "succeeded"
    assert int(house.notes(job_id)[-1].rpartition(" ")[2]) >= 1


def test_a_job_that_broke_off_here_comes_after_all_others(house: House) -> None:
    broken, other = (house.new_job(priority=priority) for priority in (9, 0))
    with house.database.begin() as session:
        found = [claims.claim_next(session, "w", 15, after={broken}) for _ in range(2)]
    assert [job and job.id for job in found] == [other, broken]


def test_a_job_is_not_tried_for_ever_where_its_size_may_be_at_fault(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "BLAMELESS", 2)
    job_id, starts = house.new_job(max_attempts=2), 0
    while house.job(job_id).status == "queued":
        starts += 1
        claim(house, job_id, storage=FullFolder(house.settings.blobs_dir)).run()
    job = house.job(job_id)
    assert (starts, job.status) == (4, "failed") and "No space left" in job.error["message"]


def test_a_state_is_of_the_model_that_lies_there(house: House) -> None:
    job_id = house.new_job("crash late", steps=4)
    claim(house, job_id).run()
    (house.settings.models_dir / "tiny" / "model.safetensors").write_bytes(b"another")
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded" and house.notes(job_id)[-1] == "starting at step 0"


def test_a_full_disk_on_the_way_costs_the_save_and_not_the_job(house: House) -> None:
    job_id = house.new_job("crash late", steps=4)
    storage = FullStorage(house.settings.blobs_dir)
    storage.full = "step.json"
    claim(house, job_id, storage=storage).run()
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"
    assert house.notes(job_id) == ["starting at step 0", "starting at step 0"]


class DistantStorage(LocalStorage):
    """Away every other time that it is asked."""

    away = False

    def put(self, source: Path) -> tuple[str, int]:
        self._ask()
        return super().put(source)

    def open(self, sha256: str) -> BinaryIO:
        self._ask()
        return super().open(sha256)

    def _ask(self) -> None:
        self.away = not self.away
        if self.away:
            raise StorageAwayError("the storage cannot be reached")


def test_a_storage_that_is_away_is_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "AWAY_S", 0.1)
    job_id, storage = house.new_job("crash late", steps=4), DistantStorage(house.settings.blobs_dir)
    for _ in range(2):
        claim(house, job_id, storage=storage).run()
    assert (house.job(job_id).status, house.job(job_id).attempt) == ("succeeded", 2)
    started = [note for note in house.notes(job_id) if note.startswith("starting")]
    assert int(started[-1].rpartition(" ")[2]) >= 1  # what was saved came back


def test_files_that_stay_are_not_put_again(house: House, tmp_path: Path) -> None:
    storage = SlowStorage(house.settings.blobs_dir)
    supervisor = claim(house, house.new_job(), storage=storage)
    (tmp_path / "save").mkdir()
    (tmp_path / "save" / "weights").write_bytes(b"weights")
    for _ in range(2):
        supervisor._save(tmp_path / "save")
    assert storage.puts == 1


def test_which_model_a_state_is_of_is_not_dropped_under_another_job_that_stores_it(
    house: House, tmp_path: Path
) -> None:
    supervisor = claim(house, house.new_job())
    for name in ("model.json", "step.json"):
        (tmp_path / name).write_text(name)
        supervisor._saved[name] = house.storage.put(tmp_path / name)
    earlier = [house.storage.path(sha256) for sha256, _ in supervisor._saved.values()]
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "step.json").write_text("the next")
    supervisor._save(tmp_path / "state")
    assert [path.exists() for path in earlier] == [True, False]


class StubbornStorage(LocalStorage):
    """A disk that does not let go of what it has."""

    refused = 0

    def delete(self, sha256: str) -> None:
        self.refused += 1
        raise OSError(30, "Read-only file system")


def test_a_saved_state_that_cannot_be_removed_costs_no_attempt(house: House) -> None:
    job_id, storage = house.new_job(steps=4), StubbornStorage(house.settings.blobs_dir)
    claim(house, job_id, storage=storage).run()
    assert storage.refused and house.job(job_id).status == "succeeded"
