"""The life of a job: the state machine, claims, leases, fencing, the outbox, events; on both databases."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.ledger import claims, jobs, keys, queries, tallies
from core.ledger.database import Database
from core.ledger.tables import DEFAULT_TENANT, Job, Outbox, Tenant
from tests.draws import draws
from tests.ledger.helpers import claimed_job, get, make_spec, new_job, statuses

ERROR = {"code": "invalid", "field": "/budget/params", "message": "out of reach"}
FILES = {"model.safetensors": ("a" * 64, 10)}

WORKER_WRITES: dict[str, Callable[[Session, str, int], Any]] = {
    "beat": lambda s, job, attempt: jobs.beat(s, job, attempt, 60),
    "report": lambda s, job, attempt: jobs.report(s, job, attempt, {"event": "stage", "stage": "teach"}),
    "save_state": lambda s, job, attempt: jobs.save_state(s, job, attempt, FILES),
    "succeed": lambda s, job, attempt: jobs.succeed(s, job, attempt, {}, FILES),
    "fail": lambda s, job, attempt: jobs.fail(s, job, attempt, ERROR),
    "stopped": lambda s, job, attempt: jobs.stopped(s, job, attempt),
    "give_back": lambda s, job, attempt: jobs.give_back(s, job, attempt, "crashed"),
    "release": lambda s, job, attempt: jobs.release(s, job, attempt, "restart"),
    "put_off": lambda s, job, attempt: jobs.put_off(s, job, attempt, "the hub answers 503", 600),
}


def do(database: Database, name: str, job_id: str, attempt: int = 1) -> None:
    with database.begin() as session:
        WORKER_WRITES[name](session, job_id, attempt)


def cancel(database: Database, job_id: str) -> None:
    with database.begin() as session:
        assert jobs.cancel(session, DEFAULT_TENANT, job_id) is not None


def expire(database: Database, job_id: str) -> None:
    with database.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=1))


def reap(database: Database) -> list[str]:
    with database.begin() as session:
        return jobs.reap(session)


def outbox(database: Database) -> list[str]:
    with database.read() as session:
        return [row.job_id for row in jobs.outbox(session)]


def publish(database: Database) -> None:
    with database.begin() as session:
        jobs.published(session, [row.id for row in jobs.outbox(session)])


# --- the state machine ---------------------------------------------------------------------------------------


def in_status(database: Database, status: str) -> str:
    """A job in that status, its last attempt being the first."""
    if status == "queued":
        return new_job(database)
    job_id = claimed_job(database)
    if status in ("cancelling", "cancelled"):
        cancel(database, job_id)
    last = {"succeeded": "succeed", "failed": "fail", "cancelled": "stopped"}
    if status in last:
        do(database, last[status], job_id)
    assert get(database, job_id).status == status
    return job_id


OUTCOMES = {
    "running": {
        "succeed": "succeeded",
        "fail": "failed",
        "give_back": "queued",
        "release": "queued",
        "put_off": "queued",
        "cancel": "cancelling",
        "reap": "queued",
        "stopped": "refused",
        "claim": "refused",
    },
    "cancelling": {
        "succeed": "refused",
        "fail": "cancelled",
        "give_back": "cancelled",
        "release": "cancelled",
        "put_off": "cancelled",
        "stopped": "cancelled",
        "cancel": "cancelling",
        "reap": "cancelled",
        "claim": "refused",
    },
    "queued": {"cancel": "cancelled", "claim": "running", "reap": "queued"},
    "succeeded": {"cancel": "refused", "claim": "refused", "reap": "succeeded", "retry": "refused"},
    "failed": {"cancel": "refused", "claim": "refused", "reap": "failed", "retry": "queued"},
    "cancelled": {"cancel": "cancelled", "claim": "refused", "reap": "cancelled", "retry": "queued"},
}
for status in ("queued", "running", "cancelling"):
    OUTCOMES[status] |= {"retry": "refused", "remove": "refused"}
for status in ("succeeded", "failed", "cancelled"):
    OUTCOMES[status] |= {"remove": "gone"}
for status in ("queued", "succeeded", "failed", "cancelled"):
    OUTCOMES[status] |= dict.fromkeys(("succeed", "fail", "give_back", "release", "put_off", "stopped"), "refused")


def attempt_change(database: Database, job_id: str, action: str) -> str:
    before = get(database, job_id)
    try:
        if action == "cancel":
            cancel(database, job_id)
        elif action == "retry":
            with database.begin() as session:
                jobs.retry(session, DEFAULT_TENANT, job_id, 3)
        elif action == "remove":
            with database.begin() as session:
                assert jobs.remove(session, DEFAULT_TENANT, job_id)
                return "gone"
        elif action == "claim":
            with database.begin() as session:
                if claims.claim(session, job_id, "other", 60) is None:
                    raise jobs.LeaseLostError
        elif action == "reap":
            if before.lease_until is not None:
                expire(database, job_id)
            reap(database)
        else:
            do(database, action, job_id)
    except (jobs.IllegalTransitionError, jobs.LeaseLostError):
        after = get(database, job_id)
        assert (after.status, after.version) == (before.status, before.version)
        return "refused"
    return get(database, job_id).status


@pytest.mark.parametrize("status", list(jobs.EDGES))
def test_every_action_on_every_status_is_allowed_or_refused_as_drawn(database: Database, status: str) -> None:
    outcomes = {action: attempt_change(database, in_status(database, status), action) for action in OUTCOMES[status]}
    assert outcomes == OUTCOMES[status]


def test_only_a_retry_leaves_a_terminal_status() -> None:
    assert {status: set(jobs.EDGES[status]) for status in jobs.TERMINAL} == {
        "succeeded": set(),
        "failed": {"queued"},
        "cancelled": {"queued"},
    }
    assert all(to in jobs.EDGES for edges in jobs.EDGES.values() for to in edges)


@pytest.mark.hypothesis
def test_any_sequence_of_actions_keeps_the_law(database: Database) -> None:
    """Whatever happens in whatever order: only drawn edges are walked, and attempts, lease and times agree."""

    class Life(RuleBasedStateMachine):
        @initialize(cap=st.integers(1, 3))
        def create(self, cap: int) -> None:
            self.job_id = new_job(database, cap)

        @rule(action=st.sampled_from(sorted(OUTCOMES["running"].keys() - {"remove"})))
        def act(self, action: str) -> None:
            attempt_change(database, self.job_id, action)

        @rule(action=st.sampled_from(sorted(WORKER_WRITES)), behind=st.integers(0, 2))
        def worker_writes(self, action: str, behind: int) -> None:
            job = get(database, self.job_id)
            attempt = job.attempt - behind
            if behind:
                with pytest.raises(jobs.LeaseLostError):
                    do(database, action, self.job_id, attempt)
            elif job.status == "running" and action != "stopped":
                do(database, action, self.job_id, attempt)

        @invariant()
        def law(self) -> None:
            job = get(database, self.job_id)
            walk = statuses(database, self.job_id)
            assert walk[0] == "queued" and walk[-1] == job.status
            assert all(to in jobs.EDGES[of] for of, to in pairwise(walk))
            assert walk.count("running") == job.attempt <= job.max_attempts
            put_off = job.status == "queued" and "waiting" in job.progress
            assert (job.lease_until is not None) == (job.status in ("running", "cancelling") or put_off)
            assert (job.finished_at is not None) == (job.status in jobs.TERMINAL)
            with database.read() as session:
                attempts = queries.attempts(session, self.job_id)
            assert [a.number for a in attempts] == list(range(1, job.attempt + 1))
            open_attempts = [a for a in attempts if a.finished_at is None]
            assert len(open_attempts) == (job.status in ("running", "cancelling"))

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Life,
        settings=draws(15, stateful_step_count=8, suppress_health_check=list(HealthCheck)),
    )


# --- creating ------------------------------------------------------------------------------------------------


def test_a_new_job_is_announced_and_recorded(database: Database) -> None:
    job_id = new_job(database)
    assert outbox(database) == [job_id]
    assert statuses(database, job_id) == ["queued"]


def test_twenty_requests_with_one_key_at_once_make_one_job(database: Database) -> None:
    start = threading.Barrier(20)

    def post(_: int) -> tuple[str, bool]:
        start.wait(120)
        with database.begin() as session:
            job, new = jobs.create(session, DEFAULT_TENANT, make_spec(), 3, "key")
            return job.id, new

    database.engine.pool.dispose()
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(post, range(20)))
    assert len({job_id for job_id, _ in results}) == 1
    assert sum(new for _, new in results) == 1
    assert len(outbox(database)) == 1


def test_a_key_with_another_body_is_refused_and_with_another_tenant_is_free(database: Database) -> None:
    with database.begin() as session:
        session.add(Tenant(id="tenant_other", name="other"))
        first, _ = jobs.create(session, DEFAULT_TENANT, make_spec(), 3, "key")
    with database.begin() as session, pytest.raises(jobs.IdempotencyConflictError):
        jobs.create(session, DEFAULT_TENANT, make_spec(budget={"params": 0.5}), 3, "key")
    with database.begin() as session:
        other, new = jobs.create(session, "tenant_other", make_spec(), 3, "key")
        assert new and other.id != first.id


def test_a_foreign_job_cannot_be_seen_or_cancelled(database: Database) -> None:
    job_id = new_job(database)
    with database.begin() as session:
        assert queries.find(session, "tenant_other", job_id) is None
        assert jobs.cancel(session, "tenant_other", job_id) is None
        assert jobs.retry(session, "tenant_other", job_id, 3) is None
        assert not jobs.remove(session, "tenant_other", job_id)
        assert list(queries.page(session, "tenant_other", 10)) == []
    assert get(database, job_id).status == "queued"


def test_pages_go_from_new_to_old_without_gap_or_double(database: Database) -> None:
    made = [new_job(database) for _ in range(7)]
    seen: list[str] = []
    before = None
    while True:
        with database.read() as session:
            page = [job.id for job in queries.page(session, DEFAULT_TENANT, 3, before, "queued")]
        if not page:
            break
        seen += page
        before = page[-1]
        new_job(database)  # newer jobs do not shift the pages
    assert seen == made[::-1]


# --- claiming, leases, fencing --------------------------------------------------------------------------------


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
        theirs = {name: [jobs.create(session, name, make_spec(), 3)[0].id for _ in range(2)] for name in others}
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
        other = jobs.create(session, "tenant_other", make_spec(), 3)[0].id
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
        mine = [jobs.create(session, DEFAULT_TENANT, make_spec(priority=9), 3, key_id=key.id)[0].id for _ in range(6)]
    other = new_job(database)
    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(lambda _: claim_next(database), range(6)))
    running = [job_id for job_id in won if job_id in mine]
    assert len(running) == 2 and won.count(other) == 1 and won.count(None) == 3
    do(database, "succeed", running[0])
    assert claim_next(database, 9) in set(mine) - set(running)
    assert claim_next(database, 9) is None


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_claim_that_comes_too_late_holds_no_tenant_while_it_looks_further(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.begin() as session:
        session.add(Tenant(id="tenant_other", name="other"))
    taken = new_job(database)
    with database.begin() as session:
        other = jobs.create(session, "tenant_other", make_spec(), 3)[0].id
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
            jobs.lock_tenant(session, DEFAULT_TENANT)  # as the quota's check does, before the retry
            claimed = pool.submit(claim_next, database, 2)
            time.sleep(0.5)
            with pytest.raises(jobs.IllegalTransitionError):
                jobs.retry(session, DEFAULT_TENANT, job_id, 3)
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


def test_jobs_are_found_by_their_labels(database: Database) -> None:
    odd = {"team": "search", "a.b/c-d_e": 'x"y\\z: ünï'}
    with_labels, plain = new_job(database, labels=odd), new_job(database, labels={"team": "ads"})

    def found(**labels: str) -> list[str]:
        with database.read() as session:
            return [job.id for job in queries.page(session, DEFAULT_TENANT, 10, labels=list(labels.items()))]

    assert found(team="search") == found(**odd) == [with_labels]
    assert found(team="ads") == [plain] and found(team="x") == found(nothing="search") == []


def test_an_unknown_job_is_not_claimed(database: Database) -> None:
    with database.begin() as session:
        assert claims.claim(session, "job_unknown", "worker", 60) is None


def test_a_beat_extends_the_lease_and_tells_of_a_cancel(database: Database) -> None:
    job_id = claimed_job(database, lease_s=1)
    before = get(database, job_id)
    assert before.lease_until is not None
    with database.begin() as session:
        assert jobs.beat(session, job_id, 1, 60) == "running"
    after = get(database, job_id)
    assert after.lease_until is not None and after.lease_until > before.lease_until + 30_000
    assert after.version == before.version  # a beat changes nothing that a client sees
    cancel(database, job_id)
    with database.begin() as session:
        assert jobs.beat(session, job_id, 1, 60) == "cancelling"


@pytest.mark.parametrize("write", sorted(WORKER_WRITES))
def test_a_stale_attempt_cannot_write(database: Database, write: str) -> None:
    job_id = claimed_job(database)
    expire(database, job_id)
    reap(database)
    with pytest.raises(jobs.LeaseLostError):  # back in the queue
        do(database, write, job_id, 1)
    with database.begin() as session:
        assert claims.claim(session, job_id, "second", 60) is not None
    before = get(database, job_id)
    with pytest.raises(jobs.LeaseLostError):  # claimed by another
        do(database, write, job_id, 1)
    after = get(database, job_id)
    assert (after.status, after.worker, after.version) == ("running", "second", before.version)
    with database.read() as session:
        assert not queries.files(session, job_id, "output") and not queries.files(session, job_id, "state")


# --- the reaper and the relay ---------------------------------------------------------------------------------


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
            jobs.report(session, job_id, job.attempt, {"event": "progress", "stage": "teach", "overall": reached})
        for _ in range(2):
            jobs.save_state(session, job_id, job.attempt, {"state": (state, 1)})
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
            jobs.save_state(session, job_id, job.attempt, {"state": (f"{i:064x}", 1)})
            jobs.give_back(session, job_id, job.attempt, "its process was killed")
    assert get(database, job_id).status == "failed"


def test_no_job_is_begun_for_ever(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MAX_STARTS", 5)
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
    later(jobs.AGAIN_S + 1)
    assert claim_next() == first
    do(database, "put_off", first, 2)
    assert get(database, first).status == "queued"
    later(590)
    assert claim_next() == first
    later(10)
    with database.begin() as session:
        assert not jobs.put_off(session, first, 3, "the hub answers 503", 600)
    do(database, "fail", first, 3)
    with database.begin() as session:
        jobs.retry(session, DEFAULT_TENANT, first, 1)
    assert claim_next() == first
    do(database, "put_off", first, 4)  # it waits anew


def test_a_queued_job_that_nobody_took_is_announced_again(database: Database) -> None:
    job_id, taken = new_job(database), claimed_job(database)

    def remind(older_than_s: float) -> list[str]:
        with database.begin() as session:
            return jobs.remind(session, older_than_s)

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
        first = jobs.outbox(session, limit=1)
        jobs.published(session, [row.id for row in first])
    assert outbox(database) == ids[1:]
    with database.begin() as session:
        assert session.scalar(select(Outbox.job_id).where(Outbox.job_id == ids[0])) is None


# --- what a worker reports ------------------------------------------------------------------------------------


def test_events_are_in_order_and_can_be_read_on_from_any_of_them(database: Database) -> None:
    job_id, other = claimed_job(database), claimed_job(database)
    for stage in ("data", "teach", "prune"):
        for job in (job_id, other):
            with database.begin() as session:
                jobs.report(session, job, 1, {"event": "stage", "stage": stage})
    with database.read() as session:
        events = list(queries.events(session, job_id, 0, 100))
        assert [e.data.get("stage") for e in events if e.type == "stage"] == ["data", "teach", "prune"]
        assert all(a.seq < b.seq for a, b in pairwise(events))
        assert [e.seq for e in queries.events(session, job_id, events[2].seq, 100)] == [e.seq for e in events[3:]]
        assert len(queries.events(session, job_id, 0, 2)) == 2


def test_progress_shows_on_the_job_but_does_not_flood_its_events(database: Database) -> None:
    job_id = claimed_job(database)
    for step in range(300):
        message = {"event": "progress", "stage": "prune", "step": step, "steps": 300, "overall": step / 3000}
        with database.begin() as session:
            jobs.report(session, job_id, 1, message)
    assert get(database, job_id).progress["step"] == 299
    with database.read() as session:
        events = [e for e in queries.events(session, job_id, 0, 1000) if e.type == "progress"]
    assert len(events) == 10


def test_success_publishes_files_and_metrics_and_drops_the_state(database: Database) -> None:
    job_id = claimed_job(database)
    do(database, "save_state", job_id)
    with database.begin() as session:
        jobs.save_state(session, job_id, 1, {"b": ("b" * 64, 1)})
    with database.read() as session:
        assert [file.path for file in queries.files(session, job_id, "state")] == ["b"]
    with database.begin() as session:
        jobs.succeed(session, job_id, 1, {"accuracy": 0.9}, FILES)
    job = get(database, job_id)
    assert (job.status, job.metrics) == ("succeeded", {"accuracy": 0.9})
    with database.read() as session:
        assert [file.path for file in queries.files(session, job_id)] == ["model.safetensors"]
        assert not queries.files(session, job_id, "state")
        assert [a.outcome for a in queries.attempts(session, job_id)] == ["succeeded"]


def test_the_state_outlives_a_lost_attempt_and_for_a_while_a_cancelled_job(database: Database) -> None:
    job_id, running = claimed_job(database), claimed_job(database)
    for one in (job_id, running):
        do(database, "save_state", one)
    do(database, "give_back", job_id)
    cancel(database, job_id)

    def states(one: str) -> int:
        with database.read() as session:
            return len(queries.files(session, one, "state"))

    for older_than_s, left in ((60, 1), (-1, 0)):
        with database.begin() as session:
            jobs.forget_states(session, older_than_s)
        assert (states(job_id), states(running)) == (left, 1)


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_retry_is_the_same_job_with_new_attempts_and_its_state(database: Database, status: str) -> None:
    job_id = new_job(database, max_attempts=1)
    publish(database)
    with database.begin() as session:
        claims.claim(session, job_id, "worker", 60)
    do(database, "save_state", job_id)
    do(database, "report", job_id)
    if status == "failed":
        do(database, "fail", job_id)
    else:
        cancel(database, job_id)
        do(database, "stopped", job_id)
    with database.begin() as session:
        assert jobs.retry(session, DEFAULT_TENANT, job_id, 2) is not None
    job = get(database, job_id)
    assert (job.status, job.attempt, job.max_attempts, job.error, job.stage) == ("queued", 1, 3, None, None)
    assert outbox(database) == [job_id]
    with database.begin() as session:
        assert claims.claim(session, job_id, "worker", 60) is not None
        assert len(queries.files(session, job_id, "state")) == 1
    with pytest.raises(jobs.LeaseLostError):
        do(database, "succeed", job_id, 1)
    do(database, "succeed", job_id, 2)
    ended = [status] if status == "failed" else ["cancelling", "cancelled"]
    assert statuses(database, job_id) == ["queued", "running", *ended, "queued", "running", "succeeded"]


def test_a_removed_job_takes_everything_along_and_frees_its_key(database: Database) -> None:
    with database.begin() as session:
        job, _ = jobs.create(session, DEFAULT_TENANT, make_spec(), 3, "key")
    cancel(database, job.id)
    with database.begin() as session:
        assert jobs.remove(session, DEFAULT_TENANT, job.id)
    with database.begin() as session:
        assert outbox(database) == [] and not queries.events(session, job.id, 0, 10)
        again, new = jobs.create(session, DEFAULT_TENANT, make_spec(), 3, "key")
        assert new and again.id != job.id


def test_odd_text_and_numbers_are_stored_on_every_database(database: Database) -> None:
    job_id = claimed_job(database)
    metrics = {"labels": ["a\0b", "\ud800"], "loss": float("nan"), "best": float("inf"), "text": "ünï 🌳"}
    with database.begin() as session:
        jobs.report(session, job_id, 1, {"event": "note", "message": "nul \0"})
        jobs.succeed(session, job_id, 1, metrics, {})
    assert get(database, job_id).metrics == {"labels": ["a�b", "?"], "loss": None, "best": None, "text": "ünï 🌳"}
    failing = claimed_job(database, max_attempts=1)
    with database.begin() as session:
        jobs.give_back(session, failing, 1, "last words \0\udfff")
    error = get(database, failing).error
    assert error is not None and "last words �?" in error["message"]
