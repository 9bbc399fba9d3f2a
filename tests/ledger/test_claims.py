"""Which job a free worker takes, and that one alone takes it; on both databases."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.ledger import keys, tallies
from core.ledger.database import Database
from core.ledger.jobs import attempts, claims, owner, queries, states
from core.ledger.tables import DEFAULT_TENANT, Tenant, Upload
from tests.ledger.helpers import (
    claimed_job,
    do,
    expire,
    get,
    make_spec,
    new_job,
    reap,
)


def test_of_many_workers_at_once_one_gets_the_job(database: Database) -> None:
    ids = [new_job(database) for _ in range(5)]
    start = threading.Barrier(8)

    def race(worker: int) -> list[str]:
        start.wait(120)
        won = []
        for job_id in ids:
            with database.begin() as session:
                if claims.claim(session, job_id, f"worker {worker}", 60) is not None:
                    won.append(job_id)
        return won

    with ThreadPoolExecutor(8) as pool:
        won = [job_id for result in pool.map(race, range(8)) for job_id in result]
    assert sorted(won) == sorted(ids)
    assert all(get(database, job_id).attempt == 1 for job_id in ids)


def claim_next(database: Database, max_running: int | None = None) -> str | None:
    with database.begin() as session:
        job = claims.claim_next(session, "worker", 60, max_running)
        return job and job.id


def test_the_highest_priority_is_claimed_first_then_the_oldest(database: Database) -> None:
    low, first, second, high = (new_job(database, priority=n) for n in (0, 5, 5, 9))
    assert [claim_next(database) for _ in range(5)] == [high, first, second, low, None]


def test_tenants_take_turns_however_many_jobs_one_asked_for_and_of_whatever_priority(database: Database) -> None:
    others = ["tenant_b", "tenant_c"]
    with database.begin() as session:
        session.add_all(Tenant(id=name, name=name) for name in others)
    mine = [new_job(database, priority=9) for _ in range(4)]
    with database.begin() as session:
        theirs = {name: [owner.create(session, name, make_spec(), 3)[0].id for _ in range(2)] for name in others}
    won = []
    for _ in range(8):
        won.append(claim_next(database))
        time.sleep(0.002)  # turns are told apart by the millisecond
    (b, later_b), (c, later_c) = theirs.values()
    assert {*won[:3]} == {mine[0], b, c} and {*won[3:6]} == {mine[1], later_b, later_c}
    assert won[6:] == mine[2:]


def test_workers_at_once_claim_each_job_once(database: Database) -> None:
    ids = [new_job(database) for _ in range(12)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda _: claim_next(database), range(16)))
    assert sorted(filter(None, won)) == ids and won.count(None) == 4


def test_a_tenant_at_its_limit_is_passed_over(database: Database) -> None:
    with database.begin() as session:
        session.add(Tenant(id="tenant_other", name="other"))
    mine = [new_job(database, priority=9) for _ in range(6)]
    with database.begin() as session:
        other = owner.create(session, "tenant_other", make_spec(), 3)[0].id
    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(lambda _: claim_next(database, 2), range(6)))
    running = [job_id for job_id in won if job_id in mine]
    assert len(running) == 2 and won.count(other) == 1 and won.count(None) == 3
    do(database, "succeed", running[0])
    assert claim_next(database, 2) in set(mine) - set(running)
    assert claim_next(database, 2) is None


def test_a_key_at_its_limit_is_passed_over(database: Database) -> None:
    with database.begin() as session:
        key, _ = keys.create(session, DEFAULT_TENANT, "small", ["write"], max_running=2)
        mine = [owner.create(session, DEFAULT_TENANT, make_spec(priority=9), 3, key_id=key.id)[0].id for _ in range(6)]
    other = new_job(database)
    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(lambda _: claim_next(database), range(6)))
    running = [job_id for job_id in won if job_id in mine]
    assert len(running) == 2 and won.count(other) == 1 and won.count(None) == 3
    do(database, "succeed", running[0])
    assert claim_next(database, 9) in set(mine) - set(running)
    assert claim_next(database, 9) is None


def test_a_tenant_and_a_key_that_keep_too_much_are_passed_over(database: Database) -> None:
    def next_of(most: int | None) -> str | None:
        with database.begin() as session:
            job = claims.claim_next(session, "worker", 60, max_stored_bytes=most)
            return job and job.id

    begun, done = new_job(database, priority=9), claimed_job(database)
    do(database, "succeed", done)  # 10 bytes
    with database.begin() as session:
        claims.claim(session, begun, "worker", 60)
        attempts.release(session, begun, 1, "restart")
        session.add(Tenant(id="tenant_other", name="other"))
        other = owner.create(session, "tenant_other", make_spec(), 3)[0].id
        small, _ = keys.create(session, "tenant_other", "small", ["write"], max_stored_bytes=9)
        by_key = owner.create(session, "tenant_other", make_spec(priority=9), 3, key_id=small.id)[0].id
        session.add(Upload(id="up_1", tenant_id="tenant_other", name="x", size_bytes=9, sha256="0", key_id=small.id))
    mine = new_job(database)
    assert {next_of(10), next_of(10)} == {begun, other}  # what has begun goes on
    assert next_of(10) is None
    with database.begin() as session:
        session.execute(delete(Upload))
    assert next_of(10) == by_key and next_of(10) is None
    assert next_of(11) == mine


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_claim_that_comes_too_late_holds_no_tenant_while_it_looks_further(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.begin() as session:
        session.add(Tenant(id="tenant_other", name="other"))
    taken = new_job(database)
    with database.begin() as session:
        other = owner.create(session, "tenant_other", make_spec(), 3)[0].id
    real, asked = claims.lock_tenant, list[str]()

    def lock(session: Session, tenant_id: str) -> None:
        asked.append(tenant_id)
        with database.begin() as beside:
            if tenant_id == DEFAULT_TENANT:  # another worker is faster
                assert claims.claim(beside, taken, "faster", 60) is not None
            else:
                beside.execute(select(Tenant.id).where(Tenant.id == DEFAULT_TENANT).with_for_update(nowait=True))
        real(session, tenant_id)

    monkeypatch.setattr(claims, "lock_tenant", lock)
    assert claim_next(database) == other and asked == [DEFAULT_TENANT, "tenant_other"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_claim_and_a_retry_take_their_locks_in_one_order(database: Database) -> None:
    job_id = new_job(database)
    with ThreadPoolExecutor(1) as pool:
        with database.begin() as session:
            owner.lock_tenant(session, DEFAULT_TENANT)  # as the quota's check does, before the retry
            claimed = pool.submit(claim_next, database, 2)
            time.sleep(0.5)
            with pytest.raises(states.IllegalTransitionError):
                owner.retry(session, DEFAULT_TENANT, job_id, 3)
        assert claimed.result(120) == job_id


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_times_of_a_job_are_of_one_clock_whatever_its_hosts_say(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = new_job(database)
    with monkeypatch.context() as ahead:
        now = time.time_ns() + 3600 * 10**9
        ahead.setattr(time, "time_ns", lambda: now)  # of the worker's host
        assert claim_next(database) == job_id
        do(database, "report", job_id)
    expire(database, job_id)
    assert reap(database) == [job_id]  # by the relay's
    with database.read() as session:
        [attempt], [(count, seconds)] = queries.attempts(session, job_id), tallies.totals(session, "stage").values()
        assert attempt.finished_at is not None
        assert get(database, job_id).started_at == attempt.started_at <= attempt.finished_at
    assert count == 1 and 0 <= seconds < 3000


def test_an_unknown_job_is_not_claimed(database: Database) -> None:
    with database.begin() as session:
        assert claims.claim(session, "job_unknown", "worker", 60) is None
