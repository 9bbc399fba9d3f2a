"""Attempts that end before their job is done, or beside it: cancelled, silent, too long, without their lease."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
from sqlalchemy import update

from core.ledger.files.storage import LocalStorage, StorageAwayError
from core.ledger.jobs import queries, upkeep
from core.ledger.settings import Settings
from core.ledger.tables import Job
from tests.worker.conftest import House
from tests.worker.supervised import child_pids, claim, is_alive, running
from worker import process, supervise


def test_a_cancel_ends_child_and_grandchildren_at_the_next_beat(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """As defaults are, that is within three seconds."""
    assert Settings().heartbeat_s + process.TICK_S + process.GRACE_S < 3
    job_id, seen = house.new_job("hang"), list[str]()
    supervisor = claim(house, job_id)
    beat = supervisor._beat

    def watched() -> None:
        beat()
        seen.append(supervisor._status)

    monkeypatch.setattr(supervisor, "_beat", watched)
    with running(supervisor):
        house.wait(lambda: any(house.traces.glob("grandchild-*")))
        house.cancel(job_id)
        house.wait(lambda: house.job(job_id).status == "cancelled")
    assert not any(map(is_alive, child_pids(house)))
    assert house.job(job_id).error is None and seen.count("cancelling") == 1


def test_the_time_limit_fails_the_job(house: House) -> None:
    job_id = house.new_job("hang", limits={"max_runtime_s": 10})
    supervisor = claim(house, job_id)
    supervisor._deadline += 600
    with running(supervisor):
        house.wait(lambda: any(house.traces.glob("grandchild-*")))
        supervisor._deadline = 0.0
    job = house.job(job_id)
    assert job.status == "failed" and job.error is not None and job.error["code"] == "time_limit"
    assert "max_runtime_s = 10" in job.error["message"]
    assert not any(map(is_alive, child_pids(house)))


def test_a_silent_child_is_ended_and_tried_again(house: House) -> None:
    job_id = house.new_job("hang")
    claim(house, job_id, settings={"silence_s": 1.5}).run()
    assert house.job(job_id).status == "queued"
    assert house.outcomes(job_id) == [("lost", "its process reported nothing for 1.5 s")]
    assert not any(map(is_alive, child_pids(house)))


def test_a_worker_that_stops_gives_its_job_back_at_once_and_uncounted(house: House) -> None:
    job_id = house.new_job("hang once", max_attempts=1)
    stopping = threading.Event()
    with running(claim(house, job_id, stopping=stopping)):
        house.wait(lambda: any(house.traces.glob("grandchild-*")))
        stopping.set()
        house.wait(lambda: house.job(job_id).status == "queued")
    assert not any(map(is_alive, child_pids(house)))
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"


def test_a_lost_lease_ends_the_child_and_nothing_more_is_written(house: House) -> None:
    job_id = house.new_job("hang once")
    with running(claim(house, job_id)):
        house.wait(lambda: any(house.traces.glob("grandchild-*")))
        with house.database.begin() as session:
            session.execute(update(Job).where(Job.id == job_id).values(lease_until=1))
            assert upkeep.reap(session) == [job_id]
    assert not any(map(is_alive, child_pids(house)))
    assert house.job(job_id).status == "queued"
    claim(house, job_id).run()
    assert house.job(job_id).metrics == {"steps": 3, "attempt": 2}


def test_an_attempt_is_over_when_all_its_processes_are_gone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine it takes a while until what was killed has ended."""

    def late(group: int, number: int) -> None:
        if number == signal.SIGKILL and not seen:
            seen.append(group)
            os.kill(group, number)  # the child at once
            return threading.Timer(0.5, os.killpg, (group, number)).start()
        return killpg(group, number)

    seen, killpg = list[int](), os.killpg
    monkeypatch.setattr(process, "os", SimpleNamespace(**{**vars(os), "killpg": late}))
    job_id = house.new_job("hang")
    with running(claim(house, job_id)):
        house.wait(lambda: any(house.traces.glob("grandchild-*")))
        house.cancel(job_id)
    assert seen and not any(map(is_alive, child_pids(house)))


def test_a_cancel_that_comes_with_the_result_wins(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = house.new_job()
    supervisor = claim(house, job_id)
    tell = supervisor._tell

    def cancelled_just_before(verdict: Any) -> None:
        house.cancel(job_id)
        tell(verdict)

    monkeypatch.setattr(supervisor, "_tell", cancelled_just_before)
    supervisor.run()
    assert house.job(job_id).status == "cancelled"
    with house.database.read() as session:
        assert not queries.files(session, job_id)


def test_a_child_that_said_done_but_stays_is_ended(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "EXIT_S", 0.3)
    job_id = house.new_job("linger")
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"
    assert not any(map(is_alive, child_pids(house)))


def test_a_child_that_floods_its_stdout_only_fills_its_log(house: House) -> None:
    job_id = house.new_job("flood")
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"


def test_a_time_limit_met_while_inputs_are_fetched_says_what_was_away(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(LocalStorage):
        def open(self, sha256: str) -> BinaryIO:
            if supervisor._away:  # the limit comes once it is known what is waited for
                supervisor._deadline = 0.0
            raise StorageAwayError("the storage answers 503")

    monkeypatch.setattr(supervise, "AWAY_S", 0.1)
    job_id = house.new_job(limits={"max_runtime_s": 10})
    supervisor = claim(house, job_id, storage=Away(house.settings.blobs_dir))
    supervisor._deadline += 600
    supervisor.run()
    error = house.job(job_id).error
    assert error is not None and error["code"] == "time_limit"
    assert "inputs were still being fetched (the storage answers 503); retry it later" in error["message"]
    assert not house.starts(job_id)


def test_a_cancel_while_the_files_are_stored_leaves_none(house: House) -> None:
    job_id, storage = house.new_job(), HeldOutputs(house.settings.blobs_dir)
    with running(claim(house, job_id, storage=storage)):
        house.wait(storage.asked.is_set)
        house.cancel(job_id)
        house.wait(lambda: house.job(job_id).status == "cancelled")
    storage.let_go.set()
    with house.database.read() as session:
        assert not queries.files(session, job_id)  # what it could be retried from stays


class HeldOutputs(LocalStorage):
    """Takes the weights when it is let."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked, self.let_go = threading.Event(), threading.Event()

    def put(self, source: Path) -> tuple[str, int]:
        if source.name == "model.safetensors":
            self.asked.set()
            self.let_go.wait(120)
        return super().put(source)
