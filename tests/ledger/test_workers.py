"""Which worker may take which job, and what a job that waits is told."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from core.ledger import workers
from core.ledger.database import Database
from core.ledger.jobs import claims, owner
from core.ledger.tables import Job, Tenant
from core.ledger.workers import Fleet, Needs, Offer
from tests.ledger.helpers import get, make_spec, new_job

CPU: dict[str, Any] = {"type": "cpu", "gpus": [], "cpus": 2, "memory_bytes": 16 * 10**9}


def gpus(*sizes_gb: int) -> dict[str, Any]:
    each = [{"id": str(i), "name": "GPU", "memory_bytes": size * 10**9} for i, size in enumerate(sizes_gb)]
    return {**CPU, "type": "cuda", "gpus": each, "memory_bytes": 512 * 10**9}


WORKERS = {"cpu": CPU, "one": gpus(24), "two": gpus(80, 80)}
TIMED = {"latency_ms": 2.0, "device": "cuda"}
ASKED: list[tuple[dict[str, Any], str]] = [
    ({}, "cpu one two"),
    ({"resources": {"device": "cpu"}}, "cpu"),
    ({"resources": {"device": "cuda"}}, "one two"),
    ({"resources": {"gpus": 1}}, "one two"),
    ({"resources": {"gpus": 2}}, "two"),
    ({"resources": {"memory_gb": 16}}, "cpu one two"),
    ({"resources": {"memory_gb": 16.5}}, "one two"),
    ({"resources": {"device": "cuda", "memory_gb": 40}}, "two"),
    ({"resources": {"gpus": 3}}, ""),
    ({"budget": TIMED}, "one two"),
    ({"budget": {"latency_ms": 2.0, "device": "cpu"}}, "cpu one two"),
]


@pytest.mark.parametrize(("asked", "fitting"), ASKED)
def test_a_worker_takes_what_it_has_room_for(asked: dict[str, Any], fitting: str, database: Database) -> None:
    for name, device in WORKERS.items():
        job_id = new_job(database, **asked)
        with database.begin() as session:
            claimed = claims.claim_next(session, name, 30, offer=Offer.of(device))
            assert (claimed is not None) == (name in fitting.split())
            assert Needs.of(make_spec(**asked).model_dump(mode="json")).met_by(device) == (claimed is not None)
            if claimed is None:
                owner.cancel(session, "tenant_default", job_id)


def test_one_whose_gpus_are_taken_takes_none_but_passes_over_no_one_else(database: Database) -> None:
    big, small = new_job(database, resources={"gpus": 2}, priority=9), new_job(database)
    with database.begin() as session:
        assert claims.claim_next(session, "w", 30, offer=Offer(0, 10**9)) is None
        job = claims.claim_next(session, "w", 30, offer=Offer(1, 10**9))
    assert job is not None and job.id == small and get(database, big).status == "queued"


def test_a_job_of_before_there_were_resources_runs_anywhere(database: Database) -> None:
    job_id = new_job(database)
    with database.begin() as session:
        spec = {name: value for name, value in get(database, job_id).spec.items() if name != "resources"}
        session.execute(update(Job).where(Job.id == job_id).values(spec=spec))
        assert Needs.of(spec).met_by(CPU) and claims.claim_next(session, "w", 30, offer=Offer.of(CPU)) is not None


@pytest.mark.parametrize("max_running", [None, 5])
def test_a_job_of_a_newer_version_is_left_to_a_newer_worker(max_running: int | None, database: Database) -> None:
    newer, plain = new_job(database, priority=9), new_job(database)
    with database.begin() as session:
        spec = get(database, newer).spec | {"invented_in_2030": {"depth": 3}}
        session.execute(update(Job).where(Job.id == newer).values(spec=spec))
    with database.begin() as session:
        job = claims.claim_next(session, "old", 30, max_running, Offer.of(CPU))
        assert job is not None and job.id == plain
        assert claims.claim_next(session, "old", 30, max_running, Offer.of(CPU)) is None
    left = get(database, newer)
    assert (left.status, left.attempt) == ("queued", 0)


def test_a_tenant_with_many_jobs_of_a_newer_version_is_passed_over(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "MAX_UNREAD", 3)
    newer = [new_job(database) for _ in range(4)]
    with database.begin() as session:
        session.execute(
            update(Job).where(Job.id.in_(newer)).values(spec=make_spec().model_dump(mode="json") | {"new": 1})
        )
        session.add(Tenant(id="tenant_other", name="other", served_at=1))
        other, _ = owner.create(session, "tenant_other", make_spec(), 3)
        job = claims.claim_next(session, "old", 30)
        assert job is not None and job.id == other.id
        assert claims.claim_next(session, "old", 30) is None


def test_why_a_job_waits(database: Database) -> None:
    def why(**asked: Any) -> str:
        with database.read() as session:
            return Fleet(session).why(make_spec(**asked).model_dump(mode="json"))

    def said(name: str, slots: int, device: dict[str, Any]) -> None:
        with database.begin() as session:
            workers.seen(session, name, slots, device)

    assert why() == "no worker is alive"
    said("cpu", 1, CPU)
    assert "free" in why() and why(resources={"gpus": 1}) == why(budget=TIMED) == "no GPU worker is alive"
    assert why(resources={"memory_gb": 20}) == "no worker that is alive has 20 GB of memory"
    said("two", 2, gpus(80, 80))
    assert why(resources={"gpus": 4, "memory_gb": 40}) == "no worker that is alive has 4 GPUs of 40 GB"
    new_job(database, resources={"gpus": 1})
    with database.begin() as session:
        assert claims.claim_next(session, "two", 30, offer=Offer.of(gpus(80, 80))) is not None
    assert why(resources={"gpus": 2}) == "every worker that fits is busy"  # a slot, but one GPU alone
    assert "free" in why(resources={"gpus": 1})
    with database.begin() as session:
        workers.gone(session, "cpu")
    assert why(resources={"device": "cpu"}) == "no worker without a GPU is alive"
