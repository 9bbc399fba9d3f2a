"""Leases, fencing and the reaper: who may write, and what becomes of a job whose worker is gone; on both databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from core.ledger.database import Database
from core.ledger.jobs import attempts, claims, owner, queries, states, upkeep
from core.ledger.tables import DEFAULT_TENANT, Job, Outbox
from tests.ledger.helpers import (
    WORKER_WRITES,
    cancel,
    claimed_job,
    do,
    expire,
    get,
    new_job,
    outbox,
    publish,
    reap,
    statuses,
)


def test_a_beat_extends_the_lease_and_tells_of_a_cancel(database: Database) -> None:
    job_id = claimed_job(database, lease_s=1)
    before = get(database, job_id)
    assert before.lease_until is not None
    with database.begin() as session:
        assert attempts.beat(session, job_id, 1, 60) == "running"
    after = get(database, job_id)
    assert after.lease_until is not None and after.lease_until > before.lease_until + 30_000
    assert after.version == before.version  # a beat changes nothing that a client sees
    cancel(database, job_id)
    with database.begin() as session:
        assert attempts.beat(session, job_id, 1, 60) == "cancelling"


@pytest.mark.parametrize("write", sorted(WORKER_WRITES))
def test_a_stale_attempt_cannot_write(database: Database, write: str) -> None:
    job_id = claimed_job(database)
    expire(database, job_id)
    reap(database)
    with pytest.raises(states.LeaseLostError):  # back in the queue
        do(database, write, job_id, 1)
    with database.begin() as session:
        assert claims.claim(session, job_id, "second", 60) is not None
    before = get(database, job_id)
    with pytest.raises(states.LeaseLostError):  # claimed by another
        do(database, write, job_id, 1)
    after = get(database, job_id)
    assert (after.status, after.worker, after.version) == ("running", "second", before.version)
    with database.read() as session:
        assert not queries.files(session, job_id, "output") and not queries.files(session, job_id, "state")


def test_the_reaper_leaves_a_live_lease_alone(database: Database) -> None:
    job_id = claimed_job(database)
    assert reap(database) == []
    assert get(database, job_id).status == "running"


def test_an_expired_lease_goes_back_to_the_queue_and_fails_at_the_cap(database: Database) -> None:
    job_id = new_job(database, max_attempts=2)
    for expected in ("queued", "failed"):
        publish(database)
        with database.begin() as session:
            assert claims.claim(session, job_id, "worker", 60) is not None
        expire(database, job_id)
        assert reap(database) == [job_id]
        assert get(database, job_id).status == expected
        assert outbox(database) == ([job_id] if expected == "queued" else [])
    error = get(database, job_id).error
    assert error is not None and error["code"] == "attempts_exhausted" and "2 attempts" in error["message"]


def attempt_lost(database: Database, job_id: str, reached: float | None, state: str) -> None:
    """A worker takes the job, says how far it is, saves, and falls silent."""
    with database.begin() as session:
        job = claims.claim(session, job_id, "worker", 60)
        assert job is not None
        if reached is not None:
            attempts.report(session, job_id, job.attempt, {"event": "progress", "stage": "teach", "overall": reached})
        for _ in range(2):
            attempts.save_state(session, job_id, job.attempt, {"state": (state, 1)})
    expire(database, job_id)
    reap(database)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.field(
    "3. Under attack", "three lost hosts in a long job", "it goes on: attempts that moved forward are not counted"
)
def test_lost_hosts_do_not_end_a_job_that_moves_forward(database: Database, told: bool) -> None:
    job_id = new_job(database, max_attempts=3)
    for i in range(12):  # the first has nothing to be ahead of
        attempt_lost(database, job_id, 0.1 + i / 1000 if told else None, f"{i:064x}")
        job = get(database, job_id)
        assert (job.status, job.max_attempts - job.attempt) == ("queued", 2)
    for left in (1, 0):  # nothing new is saved
        attempt_lost(database, job_id, 0.1 if told else None, f"{11:064x}")
        job = get(database, job_id)
        assert (job.status, job.max_attempts - job.attempt) == ("queued" if left else "failed", left)


def test_a_job_that_saves_and_gets_no_further_is_given_up(database: Database) -> None:
    job_id = new_job(database, max_attempts=3)
    for i in range(3):
        attempt_lost(database, job_id, 0.4, f"{i:064x}")
    assert get(database, job_id).status == "failed"


def test_a_job_that_ends_its_own_process_is_given_up_however_far_it_comes(database: Database) -> None:
    job_id = new_job(database, max_attempts=3)
    for i in range(3):
        with database.begin() as session:
            job = claims.claim(session, job_id, "worker", 60)
            assert job is not None
            attempts.save_state(session, job_id, job.attempt, {"state": (f"{i:064x}", 1)})
            attempts.give_back(session, job_id, job.attempt, "its process was killed")
    assert get(database, job_id).status == "failed"


def test_no_job_is_begun_for_ever(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MAX_STARTS", 5)
    job_id = new_job(database, max_attempts=2)
    for i in range(5):
        attempt_lost(database, job_id, i / 10, f"{i:064x}")
    assert get(database, job_id).status == "failed"


def test_a_job_that_is_being_cancelled_is_cancelled_by_the_reaper(database: Database) -> None:
    job_id = claimed_job(database)
    cancel(database, job_id)
    expire(database, job_id)
    reap(database)
    assert statuses(database, job_id) == ["queued", "running", "cancelling", "cancelled"]


def test_two_reapers_at_once_reap_each_job_once(database: Database) -> None:
    ids = [claimed_job(database) for _ in range(20)]
    for job_id in ids:
        expire(database, job_id)
    start = threading.Barrier(4)

    def run(_: int) -> list[str]:
        start.wait(120)
        return reap(database)

    with ThreadPoolExecutor(4) as pool:
        reaped = [job_id for result in pool.map(run, range(4)) for job_id in result]
    reaped += reap(database)
    assert sorted(reaped) == sorted(ids)
    assert all(statuses(database, job_id) == ["queued", "running", "queued"] for job_id in ids)


def test_an_orderly_restart_does_not_count_against_the_cap(database: Database) -> None:
    job_id = new_job(database, max_attempts=1)
    for attempt in (1, 2, 3):
        with database.begin() as session:
            assert claims.claim(session, job_id, "worker", 60) is not None
        do(database, "release", job_id, attempt)
        assert get(database, job_id).status == "queued"


def test_a_job_that_is_put_off_lets_others_go_first_and_does_not_wait_for_ever(database: Database) -> None:
    first, second = new_job(database, max_attempts=1), new_job(database)

    def claim_next() -> str | None:
        with database.begin() as session:
            job = claims.claim_next(session, "worker", 60)
            return job and job.id

    def later(seconds: float) -> None:
        """As if so much time had passed."""
        job = get(database, first)
        with database.begin() as session:
            progress = job.progress | {"away_since": job.progress["away_since"] - int(1000 * seconds)}
            values = {"progress": progress, "lease_until": (job.lease_until or 0) - int(1000 * seconds)}
            session.execute(update(Job).where(Job.id == first).values(values))

    assert claim_next() == first
    do(database, "put_off", first)
    assert get(database, first).progress["waiting"] == "the hub answers 503"
    assert (claim_next(), claim_next()) == (second, None)
    later(attempts.AGAIN_S + 1)
    assert claim_next() == first
    do(database, "put_off", first, 2)
    assert get(database, first).status == "queued"
    later(590)
    assert claim_next() == first
    later(10)
    with database.begin() as session:
        assert not attempts.put_off(session, first, 3, "the hub answers 503", 600)
    do(database, "fail", first, 3)
    with database.begin() as session:
        owner.retry(session, DEFAULT_TENANT, first, 1)
    assert claim_next() == first
    do(database, "put_off", first, 4)  # it waits anew


def test_a_job_that_is_put_off_does_not_wait_for_a_clock_that_went_back(database: Database) -> None:
    job_id, hour = claimed_job(database), 3_600_000
    do(database, "put_off", job_id)
    job = get(database, job_id)
    with database.begin() as session:  # as if the clock had gone back since
        progress = job.progress | {"away_since": job.progress["away_since"] + hour}
        values = {"progress": progress, "lease_until": (job.lease_until or 0) + hour}
        session.execute(update(Job).where(Job.id == job_id).values(values))
    with database.begin() as session:
        upkeep.renew(session, 15)
    with database.begin() as session:
        again = claims.claim_next(session, "worker", 60)
        assert again is not None and again.id == job_id
    do(database, "put_off", job_id, 2)
    assert get(database, job_id).progress["away_since"] < job.progress["away_since"] + hour / 2


def test_a_queued_job_that_nobody_took_is_announced_again(database: Database) -> None:
    job_id, taken = new_job(database), claimed_job(database)

    def remind(older_than_s: float) -> list[str]:
        with database.begin() as session:
            return upkeep.remind(session, older_than_s)

    assert remind(0) == []  # its first announcement still waits in the outbox
    publish(database)
    assert remind(60) == []  # announced just now
    assert remind(0) == [job_id]
    assert outbox(database) == [job_id]
    assert taken not in outbox(database)
    publish(database)
    with database.begin() as session:
        session.execute(update(Job).values(announced_at=1))
    assert remind(60) == [job_id]
    publish(database)
    assert remind(60) == []
    assert statuses(database, job_id) == ["queued"]  # reminders are no news for the owner


def test_what_was_published_is_forgotten_and_the_rest_kept(database: Database) -> None:
    ids = [new_job(database) for _ in range(3)]
    with database.begin() as session:
        first = upkeep.outbox(session, limit=1)
        upkeep.published(session, [row.id for row in first])
    assert outbox(database) == ids[1:]
    with database.begin() as session:
        assert session.scalar(select(Outbox.job_id).where(Outbox.job_id == ids[0])) is None
