"""The life of a job in the ledger: made, announced, reported, ended, tried again, removed; on both databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from core.ledger.database import Database
from core.ledger.jobs import attempts, claims, owner, queries, states, upkeep
from core.ledger.tables import DEFAULT_TENANT, Tenant
from tests.ledger.helpers import (
    FILES,
    cancel,
    claimed_job,
    do,
    get,
    make_spec,
    new_job,
    outbox,
    publish,
    statuses,
)


def test_a_new_job_is_announced_and_recorded(database: Database) -> None:
    job_id = new_job(database)
    assert outbox(database) == [job_id]
    assert statuses(database, job_id) == ["queued"]


def test_twenty_requests_with_one_key_at_once_make_one_job(database: Database) -> None:
    start = threading.Barrier(20)

    def post(_: int) -> tuple[str, bool]:
        start.wait(120)
        with database.begin() as session:
            job, new = owner.create(session, DEFAULT_TENANT, make_spec(), 3, "key")
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
        first, _ = owner.create(session, DEFAULT_TENANT, make_spec(), 3, "key")
    with database.begin() as session, pytest.raises(owner.IdempotencyConflictError):
        owner.create(session, DEFAULT_TENANT, make_spec(budget={"params": 0.5}), 3, "key")
    with database.begin() as session:
        other, new = owner.create(session, "tenant_other", make_spec(), 3, "key")
        assert new and other.id != first.id


def test_a_foreign_job_cannot_be_seen_or_cancelled(database: Database) -> None:
    job_id = new_job(database)
    with database.begin() as session:
        assert queries.find(session, "tenant_other", job_id) is None
        assert owner.cancel(session, "tenant_other", job_id) is None
        assert owner.retry(session, "tenant_other", job_id, 3) is None
        assert not owner.remove(session, "tenant_other", job_id)
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


def test_jobs_are_found_by_their_labels(database: Database) -> None:
    odd = {"team": "search", "a.b/c-d_e": 'x"y\\z: ünï'}
    with_labels, plain = new_job(database, labels=odd), new_job(database, labels={"team": "ads"})

    def found(**labels: str) -> list[str]:
        with database.read() as session:
            return [job.id for job in queries.page(session, DEFAULT_TENANT, 10, labels=list(labels.items()))]

    assert found(team="search") == found(**odd) == [with_labels]
    assert found(team="ads") == [plain] and found(team="x") == found(nothing="search") == []


def test_events_are_in_order_and_can_be_read_on_from_any_of_them(database: Database) -> None:
    job_id, other = claimed_job(database), claimed_job(database)
    for stage in ("data", "teach", "prune"):
        for job in (job_id, other):
            with database.begin() as session:
                attempts.report(session, job, 1, {"event": "stage", "stage": stage})
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
            attempts.report(session, job_id, 1, message)
    assert get(database, job_id).progress["step"] == 299
    with database.read() as session:
        events = [e for e in queries.events(session, job_id, 0, 1000) if e.type == "progress"]
    assert len(events) == 10


def test_success_publishes_files_and_metrics_and_drops_the_state(database: Database) -> None:
    job_id = claimed_job(database)
    do(database, "save_state", job_id)
    with database.begin() as session:
        attempts.save_state(session, job_id, 1, {"b": ("b" * 64, 1)})
    with database.read() as session:
        assert [file.path for file in queries.files(session, job_id, "state")] == ["b"]
    with database.begin() as session:
        attempts.succeed(session, job_id, 1, {"accuracy": 0.9}, FILES)
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
            upkeep.forget_states(session, older_than_s)
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
        assert owner.retry(session, DEFAULT_TENANT, job_id, 2) is not None
    job = get(database, job_id)
    assert (job.status, job.attempt, job.max_attempts, job.error, job.stage) == ("queued", 1, 3, None, None)
    assert outbox(database) == [job_id]
    with database.begin() as session:
        assert claims.claim(session, job_id, "worker", 60) is not None
        assert len(queries.files(session, job_id, "state")) == 1
    with pytest.raises(states.LeaseLostError):
        do(database, "succeed", job_id, 1)
    do(database, "succeed", job_id, 2)
    ended = [status] if status == "failed" else ["cancelling", "cancelled"]
    assert statuses(database, job_id) == ["queued", "running", *ended, "queued", "running", "succeeded"]


def test_a_removed_job_takes_everything_along_and_frees_its_key(database: Database) -> None:
    with database.begin() as session:
        job, _ = owner.create(session, DEFAULT_TENANT, make_spec(), 3, "key")
    cancel(database, job.id)
    with database.begin() as session:
        assert owner.remove(session, DEFAULT_TENANT, job.id)
    with database.begin() as session:
        assert outbox(database) == [] and not queries.events(session, job.id, 0, 10)
        again, new = owner.create(session, DEFAULT_TENANT, make_spec(), 3, "key")
        assert new and again.id != job.id


def test_odd_text_and_numbers_are_stored_on_every_database(database: Database) -> None:
    job_id = claimed_job(database)
    metrics = {"labels": ["a\0b", "\ud800"], "loss": float("nan"), "best": float("inf"), "text": "ünï 🌳"}
    with database.begin() as session:
        attempts.report(session, job_id, 1, {"event": "note", "message": "nul \0"})
        attempts.succeed(session, job_id, 1, metrics, {})
    assert get(database, job_id).metrics == {"labels": ["a�b", "?"], "loss": None, "best": None, "text": "ünï 🌳"}
    failing = claimed_job(database, max_attempts=1)
    with database.begin() as session:
        attempts.give_back(session, failing, 1, "last words \0\udfff")
    error = get(database, failing).error
    assert error is not None and "last words �?" in error["message"]
