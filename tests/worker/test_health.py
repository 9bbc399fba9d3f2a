"""The health check of a worker's container, and of the relay's."""

from __future__ import annotations

import os
import socket
import time

import pytest

from core.ledger import tables, workers
from core.ledger.tables import now_ms
from tests.worker.conftest import House
from worker.health import LATE_S, fault, trace
from worker.relay import Relay


@pytest.mark.parametrize(
    ("name", "seconds_ago", "healthy"),
    [(f"{socket.gethostname()}:1", 0, True), (f"{socket.gethostname()}:1", 30, False), ("another:1", 0, False)],
)
def test_a_worker_is_healthy_while_it_reports_from_this_host(
    house: House, name: str, seconds_ago: int, healthy: bool
) -> None:
    with house.database.begin() as session:
        workers.seen(session, name, 1, {})
        session.get_one(tables.Worker, name).seen_at -= seconds_ago * 1000
    assert (fault("worker", house.settings) is None) == healthy


def test_a_relay_is_healthy_while_it_works_and_no_announcement_waits_for_long(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay(house.database, house.settings)
    monkeypatch.setattr(relay, "_do", lambda *_: None)  # a broker that is away
    assert fault("relay", house.settings) == "it does not work"  # whatever others do
    relay.step()
    assert fault("relay", house.settings) is None
    long_ago = time.time() - LATE_S - 1
    os.utime(trace(house.settings), (long_ago, long_ago))
    assert fault("relay", house.settings) == "it does not work"
    relay.step()
    house.new_job()
    assert fault("relay", house.settings) is None
    with house.database.begin() as session:
        session.query(tables.Outbox).update({"created_at": now_ms() - (LATE_S + 1) * 1000})
    assert fault("relay", house.settings) == "1 announcements wait"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_clock_that_is_wrong_makes_no_relay_ill(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    Relay(house.database, house.settings).step()
    behind = time.time_ns() - 3_600 * 10**9
    with monkeypatch.context() as api:  # whose clock is an hour behind
        api.setattr(time, "time_ns", lambda: behind)
        house.new_job()
    assert fault("relay", house.settings) is None
