"""The relay, step by step, against a real broker."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.exceptions import OperationalError
from sqlalchemy import update
from sqlalchemy.exc import DatabaseError
from sqlalchemy.exc import OperationalError as OperationalDatabaseError

from core.ledger import tables, webhooks, workers
from core.ledger.jobs import attempts, claims, upkeep
from core.ledger.tables import clock_ms, now_ms
from tests.conftest import Broker
from tests.worker.conftest import House
from worker import relay as module
from worker import tidy
from worker.relay import Relay


@pytest.fixture
def relay(house: House, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Relay:
    monkeypatch.setattr(module.app.conf, "broker_url", broker.url)
    return Relay(house.database, house.settings, remind_after_s=0)


def announced(house: House) -> list[str]:
    with house.database.read() as session:
        return [row.job_id for row in upkeep.outbox(session)]


def test_what_the_broker_took_is_forgotten(house: House, broker: Broker, relay: Relay) -> None:
    ids = [house.new_job() for _ in range(3)]
    assert relay.publish() == 3
    assert announced(house) == [] and relay.publish() == 0
    messages = b"".join(broker.client.lrange("topwork", 0, -1)).decode()
    assert broker.client.llen("topwork") == 3 and all(job_id in messages for job_id in ids)


def test_a_broker_that_is_away_loses_no_announcement(house: House, broker: Broker, relay: Relay) -> None:
    job_id = house.new_job()
    broker.stop()
    with pytest.raises(OperationalError):
        relay.publish()
    relay.step()  # logs it, and backs off
    assert announced(house) == [job_id]
    broker.start()
    assert relay.publish() == 1


def test_a_relay_that_dies_before_the_ledger_knows_announces_twice_and_the_job_is_taken_once(
    house: House, broker: Broker, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = house.new_job()
    with monkeypatch.context() as patch:
        patch.setattr(module.upkeep, "published", lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit):
            relay.publish()
    assert announced(house) == [job_id]
    Relay(house.database, house.settings).publish()
    assert broker.client.llen("topwork") == 2
    with house.database.begin() as session:
        taken = [claims.claim(session, job_id, "worker", 60) for _ in range(2)]
    assert [one is not None for one in taken] == [True, False]


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_clock_that_jumps_costs_no_job_and_delays_no_reaping(
    jump_s: float, house: House, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = house.new_job()
    with house.database.begin() as session:
        claims.claim(session, job_id, "worker", 300.0)
    assert relay.reap() == []
    for room in (attempts, upkeep, module):
        monkeypatch.setattr(room, "clock_ms", lambda session: clock_ms(session) + int(jump_s * 1000))
    assert relay.reap() == []
    with house.database.begin() as session:
        assert attempts.beat(session, job_id, 1, 300.0) == "running"
    assert relay.reap() == []
    with house.database.begin() as session:
        attempts.beat(session, job_id, 1, 0.5)
    house.wait(lambda: relay.reap() == [job_id])


def test_a_relay_that_starts_lets_workers_be_heard_first(house: House, relay: Relay) -> None:
    """The database may have been away until now, and the leases run out with it."""
    job_id = house.new_job()
    with house.database.begin() as session:
        claims.claim(session, job_id, "worker", 0.0)
    orphan = house.settings.blobs_dir / "ab" / "cd" / ("abcd" + 60 * "0")
    orphan.parent.mkdir(parents=True)
    orphan.touch()
    os.utime(orphan, (1, 1))
    stops = iter([False, True])
    once: Any = SimpleNamespace(wait=lambda _s: next(stops), is_set=lambda: True)
    relay.run(once)
    assert not relay._tidying.is_alive()
    assert house.job(job_id).status == "running" and orphan.exists()
    relay._mourning_until = 0.0
    house.wait(lambda: relay.step() or house.job(job_id).status == "queued")
    relay._tidying.join()
    assert house.job(job_id).status == "queued" and not orphan.exists()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_what_is_due_goes_by_the_clock_of_the_database(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    behind = now_ms() - 3_600_000  # this host's clock is an hour behind
    monkeypatch.setattr(tables, "now_ms", lambda: behind)
    job_id, ended = house.new_job(), house.new_job(webhook={"url": "https://example.org/"})
    house.cancel(ended)
    with house.database.begin() as session:
        assert upkeep.remind(session, 60) == []
        assert [letter.url for letter in webhooks.take(session, 9)] == ["https://example.org/"]
        assert webhooks.take(session, 9) == []
        workers.seen(session, "worker", 1, {})
        assert len(workers.alive(session)) == 1
        claims.claim(session, job_id, "worker", 60)
        assert upkeep.reap(session) == [] and attempts.beat(session, job_id, 1, 60) == "running"
        assert upkeep.reap(session) == []


def test_relays_at_once_announce_everything(house: House, broker: Broker, relay: Relay) -> None:
    for _ in range(5):
        house.new_job()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda relay: relay.publish(), [relay, Relay(house.database, house.settings), relay]))
    assert announced(house) == [] and broker.client.llen("topwork") >= 5


def test_reminders_wait_until_the_broker_is_empty(house: House, broker: Broker, relay: Relay) -> None:
    job_id = house.new_job()
    relay.publish()
    assert relay.remind() == []
    broker.client.flushall()
    assert relay.remind() == [job_id]
    assert announced(house) == [job_id]


def test_a_disk_that_fails_while_tidying_is_not_taken_for_the_broker(
    house: House, relay: Relay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError("input/output error")

    monkeypatch.setattr(module, "tidy_work_folders", fail)
    relay.step()
    relay._tidying.join()
    assert "cannot tidy" in caplog.text and "broker" not in caplog.text


def test_tidying_that_fails_stops_no_reaping_and_is_not_hurried(
    house: House, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object) -> None:
        raise DatabaseError("SELECT", {}, Exception("terminating connection"))

    monkeypatch.setattr(module, "tidy_work_folders", cut_off)
    relay.step()
    relay._tidying.join()
    job_id = house.new_job()
    with house.database.begin() as session:
        claims.claim(session, job_id, "worker", -1)
    assert relay.reap() == [job_id]
    assert relay._due["tidy"] > time.monotonic() + 30


def test_a_storage_that_takes_long_to_list_holds_up_nothing(
    house: House, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = threading.Event()
    monkeypatch.setattr(relay.storage, "sweep", lambda *_: listed.wait(120))
    relay.step()
    house.new_job()
    assert relay.publish() == 1
    tidying, relay._due["tidy"] = relay._tidying, 0.0
    relay.step()
    assert relay._tidying is tidying and tidying.is_alive()  # one at a time
    listed.set()
    tidying.join()


def test_files_are_removed_outside_of_any_transaction(
    house: House, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    (house.settings.work_dir / "job_gone" / "1").mkdir(parents=True)
    unused = house.settings.data_dir / "unused"
    unused.write_bytes(b"unused")
    blob = house.storage.path(house.storage.put(unused)[0])
    os.utime(blob, (1, 1))
    held, unlink = [], Path.unlink

    def watched(path: Path, **options: bool) -> None:
        held.append(house.database.engine.pool.checkedout())  # type: ignore[attr-defined]
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", watched)
    monkeypatch.setattr(tidy.shutil, "rmtree", lambda *_, **__: watched(unused, missing_ok=True))
    relay.tidy()
    assert held == [0, 0] and not blob.exists()


def test_tidying_leaves_what_is_in_use(house: House, relay: Relay) -> None:
    running, ended = house.new_job(), house.new_job()
    with house.database.begin() as session:
        claims.claim(session, running, "worker", 60)
        claims.claim(session, ended, "worker", 60)
        attempts.succeed(session, ended, 1, {}, {})
    folders = [house.settings.work_dir / path for path in (f"{running}/1", f"{running}/2", f"{ended}/1", "job_gone/1")]
    for folder in folders:
        folder.mkdir(parents=True)
    unused = house.settings.data_dir / "unused"
    unused.write_bytes(b"unused")
    sha256, _ = house.storage.put(unused)
    blobs = [path for path in house.settings.blobs_dir.rglob("*") if path.is_file()]
    for blob in blobs:
        os.utime(blob, (1, 1))
    relay.tidy()
    assert [folder.exists() for folder in folders] == [True, True, False, False]
    assert not folders[2].parent.exists()
    assert [blob.exists() for blob in blobs] == [blob.name != sha256 for blob in blobs]  # the data set stays


def test_files_that_a_running_attempt_has_put_stay_however_long_the_others_take(house: House, relay: Relay) -> None:
    part = house.settings.data_dir / "part"
    part.write_bytes(b"put hours before its row")
    blob = house.storage.path(house.storage.put(part)[0])
    hours_ago = time.time() - 3 * 3600
    os.utime(blob, (hours_ago, hours_ago))
    job_id = house.new_job()
    with house.database.begin() as session:
        claims.claim(session, job_id, "worker", 60)
        session.execute(update(tables.Attempt).values(started_at=int((hours_ago - 60) * 1000)))
    relay.tidy()
    assert blob.exists()
    with house.database.begin() as session:
        attempts.fail(session, job_id, 1, {"code": "invalid", "message": "out of reach"})
    relay.tidy()
    assert not blob.exists()


def test_a_full_disk_that_no_row_can_be_written_to_is_swept(
    house: House, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OperationalDatabaseError("", {}, Exception("database or disk is full"))

    unused = house.settings.data_dir / "unused"
    unused.write_bytes(b"unused")
    blob = house.storage.path(house.storage.put(unused)[0])
    os.utime(blob, (1, 1))
    monkeypatch.setattr(module.tallies, "compact", full)
    with pytest.raises(OperationalDatabaseError):
        relay.tidy()
    assert not blob.exists()
