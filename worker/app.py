"""The Celery app: a message says "look at job X", nothing more. The ledger is the truth; any message may be lost,
doubled or stale, and a worker that is woken takes the job that is due, whichever it is. `python -m worker` starts one.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Literal

from celery import Celery, signals
from sqlalchemy.exc import SQLAlchemyError

from core.ledger import logs
from core.ledger.database import Database, open_database
from core.ledger.files.private import keep_private
from core.ledger.files.storage import Storage
from core.ledger.files.stores import open_storage
from core.ledger.jobs import claims
from core.ledger.settings import read_settings
from core.ledger.workers import Needs
from worker.presence import announce, device
from worker.slots import Slots
from worker.supervise import Supervisor
from worker.tidy import tidy_work_folders

log = logging.getLogger("topwork.worker")

settings = read_settings()
app = Celery("topwork", broker=settings.broker)
app.conf.update(
    task_acks_late=False,  # the lease, not the broker, brings a lost job back
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    task_default_queue="topwork",
    worker_pool="threads",  # each thread waits for a child process
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,  # a message behind a long job is left for another worker
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_channel_error_retry=True,  # an error that the broker answers (no space, a failover) passes, too
    broker_transport_options={"socket_connect_timeout": 5, "socket_keepalive": True},
)

REST_S = 60.0
TIDY_S = 600.0
FAREWELL_S = 5.0
PROBE: Sequence[str] = (sys.executable, "-P", "-m", "worker.probe")
PROBE_S = 120.0
MAX_RESTING = 1000


class Rest:
    """After attempts that broke off: who takes no job, or is not taken, for a while.

    A job whose process died rests alone. Only where the machine is at fault does the worker rest, for it would soon
    have tried every job that waits as often as may be.
    """

    def __init__(self) -> None:
        self._broken, self._until = 0, 0.0
        self._jobs: dict[str, tuple[int, float]] = {}  # that broke off here: how often, and until when each rests

    def after(self, job: str, how: Literal["well", "job", "machine"]) -> None:
        """An attempt has come to a verdict, or has broken off by a fault of the one or the other: each in a row doubles
        the rest."""
        times, _ = self._jobs.pop(job, (0, 0.0))
        self._broken = self._broken + 1 if how == "machine" else 0
        if how == "machine":
            self._until = _doubled(self._broken)
        elif how == "job":
            self._jobs = dict([*self._jobs.items()][-MAX_RESTING:]) | {job: (times + 1, _doubled(times + 1))}

    def over(self) -> bool:
        """Whether the worker may take a job."""
        return time.monotonic() >= self._until

    def jobs(self) -> set[str]:
        """That broke off here: any other goes before them."""
        return {*self._jobs.copy()}  # other threads change it

    def resting(self) -> set[str]:
        """Of these, those that are not taken yet."""
        now = time.monotonic()
        return {job for job, (_, until) in self._jobs.copy().items() if now < until}


def _doubled(times: int) -> float:
    return time.monotonic() + min(REST_S, 2.0 ** min(times - 1, 9))


def is_well(gpus: Sequence[str]) -> bool:
    """Whether a process can do here what every job does: load torch, compute, write a file."""
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {})
    try:
        settings.work_dir.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [*PROBE, str(settings.work_dir.resolve())],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.error("this machine is not well: the probe: %s", type(error).__name__)
        return False
    if done.returncode != 0:
        log.error("this machine is not well: %s", (done.stderr.strip().splitlines() or ["the probe died"])[-1])
    return done.returncode == 0


rest = Rest()
CHILD: Sequence[str] = (sys.executable, "-P", "-m", "worker.child")
stopping = threading.Event()
leaving: list[threading.Thread] = []  # that tells the ledger so in the end


@app.task(name="topwork.look")  # type: ignore[untyped-decorator]
def look(_job_id: str = "") -> None:
    """There may be work: take the best queued job that there is room for and see it through, until none is left."""
    while not stopping.is_set() and rest.over():
        try:
            with slots().lock:
                with database().begin() as session:
                    offer = slots().offer()
                    limits = settings.lease_s, settings.max_running
                    passed = rest.jobs(), rest.resting()
                    job = claims.claim_next(session, _name(), *limits, offer, *passed, settings.max_stored_bytes)
                if job is None:
                    return
                gpus = slots().take(Needs.of(job.spec).gpus or 1)
        except SQLAlchemyError as error:
            log.warning("cannot look for work: %s", str(error).partition("\n")[0])
            return
        try:
            with logs.bound(job=job.id, attempt=job.attempt, worker=_name()):
                supervisor = Supervisor(job, database(), storage(), settings, CHILD, stopping, gpus)
                well = supervisor.run()
                ours = not well and (supervisor.blameless or not (stopping.is_set() or is_well(gpus)))
                rest.after(job.id, "well" if well else "machine" if ours else "job")
        finally:
            slots().give_back(gpus)


def _name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


@cache
def database() -> Database:
    """The ledger's database, opened at first use."""
    return open_database(settings)


@cache
def storage() -> Storage:
    """The storage, opened at first use."""
    return open_storage(settings)


@cache
def slots() -> Slots:
    """What this worker runs jobs on."""
    return Slots(settings.worker_slots, device())


def main() -> None:
    """A worker, until it is told to stop. Refuses a database that it does not know."""
    log_to_stderr()
    for line in keep_private(settings.data_dir):
        log.warning("%s", line)
    require_schema(database())
    try:
        storage()
    except (ImportError, ValueError) as error:
        log.error("the storage cannot be used: %s", error)
        sys.exit(1)
    arguments = ["worker", "--concurrency", str(slots().count)]
    app.worker_main([*arguments, "--without-gossip", "--without-mingle", "--without-heartbeat"])
    for thread in leaving:
        thread.join(FAREWELL_S)
    logging.shutdown()
    # Not `sys.exit`: Python would wait for the threads of a download that nobody wants any more.
    os._exit(0 if stopping.is_set() else 1)


def require_schema(database: Database) -> None:
    """Waits for the database; ends the process if it is of another version."""
    while True:
        try:
            fault = database.schema_fault()
            break
        except SQLAlchemyError as error:
            log.warning("the database is away: %s", str(error).partition("\n")[0])
            time.sleep(2)
    if fault is not None:
        log.error("%s", fault)
        sys.exit(1)


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _log(loglevel: int | str | None = None, **_: Any) -> None:
    log_to_stderr()


def log_to_stderr() -> None:
    """As the settings say; Celery leaves the root logger to us."""
    logs.configure(settings.log)
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)  # a line for each message says nothing
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _ready(sender: Any, **_: Any) -> None:
    def tidy() -> None:  # after workers of this machine that were killed
        while True:
            try:
                tidy_work_folders(database(), settings.work_dir)
            except SQLAlchemyError as error:
                log.warning("cannot tidy the work folders: %s", error)
            if stopping.wait(TIDY_S):
                return

    threading.Thread(target=tidy, daemon=True).start()

    def look_around() -> None:
        if slots().busy < slots().count:
            with suppress(RuntimeError):  # Celery has ended its pool
                sender.pool.executor.submit(look)

    facts = (database(), _name(), slots().count, slots().device, stopping, look_around)
    leaving.append(threading.Thread(target=announce, args=facts, daemon=True))
    leaving[0].start()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop(**_: Any) -> None:
    # Celery now waits for the running tasks; each sees the event, ends its child and gives the job back.
    stopping.set()
