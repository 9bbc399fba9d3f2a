"""The state machine of a job: what each action does to each status, in any order; on both databases."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from core.ledger.database import Database
from core.ledger.jobs import claims, owner, queries, states
from core.ledger.tables import DEFAULT_TENANT
from tests.draws import draws
from tests.ledger.helpers import (
    WORKER_WRITES,
    cancel,
    claimed_job,
    do,
    expire,
    get,
    new_job,
    reap,
    statuses,
)


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
                owner.retry(session, DEFAULT_TENANT, job_id, 3)
        elif action == "remove":
            with database.begin() as session:
                assert owner.remove(session, DEFAULT_TENANT, job_id)
                return "gone"
        elif action == "claim":
            with database.begin() as session:
                if claims.claim(session, job_id, "other", 60) is None:
                    raise states.LeaseLostError
        elif action == "reap":
            if before.lease_until is not None:
                expire(database, job_id)
            reap(database)
        else:
            do(database, action, job_id)
    except (states.IllegalTransitionError, states.LeaseLostError):
        after = get(database, job_id)
        assert (after.status, after.version) == (before.status, before.version)
        return "refused"
    return get(database, job_id).status


@pytest.mark.parametrize("status", list(states.EDGES))
def test_every_action_on_every_status_is_allowed_or_refused_as_drawn(database: Database, status: str) -> None:
    outcomes = {action: attempt_change(database, in_status(database, status), action) for action in OUTCOMES[status]}
    assert outcomes == OUTCOMES[status]


def test_only_a_retry_leaves_a_terminal_status() -> None:
    assert {status: set(states.EDGES[status]) for status in states.TERMINAL} == {
        "succeeded": set(),
        "failed": {"queued"},
        "cancelled": {"queued"},
    }
    assert all(to in states.EDGES for edges in states.EDGES.values() for to in edges)


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
                with pytest.raises(states.LeaseLostError):
                    do(database, action, self.job_id, attempt)
            elif job.status == "running" and action != "stopped":
                do(database, action, self.job_id, attempt)

        @invariant()
        def law(self) -> None:
            job = get(database, self.job_id)
            walk = statuses(database, self.job_id)
            assert walk[0] == "queued" and walk[-1] == job.status
            assert all(to in states.EDGES[of] for of, to in pairwise(walk))
            assert walk.count("running") == job.attempt <= job.max_attempts
            put_off = job.status == "queued" and "waiting" in job.progress
            assert (job.lease_until is not None) == (job.status in ("running", "cancelling") or put_off)
            assert (job.finished_at is not None) == (job.status in states.TERMINAL)
            with database.read() as session:
                attempts = queries.attempts(session, self.job_id)
            assert [a.number for a in attempts] == list(range(1, job.attempt + 1))
            open_attempts = [a for a in attempts if a.finished_at is None]
            assert len(open_attempts) == (job.status in ("running", "cancelling"))

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Life,
        settings=draws(15, stateful_step_count=8, suppress_health_check=list(HealthCheck)),
    )
