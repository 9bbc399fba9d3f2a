"""The Celery app: a message says "look at job X", nothing more. The ledger is the truth; any message may be lost,
doubled or stale, and a worker that is woken takes the job that is due, whichever it is. `python -m worker` starts one.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

from celery import Celery, signals
from sqlalchemy.exc import SQLAlchemyError

from core.ledger import jobs
from core.ledger.database import Database, open_database
from core.ledger.settings import Settings
from core.ledger.storage import Storage, open_storage
from worker.presence import announce
from worker.supervise import Supervisor
from worker.tidy import tidy_work_folders

log = logging.getLogger("topwork.worker")

settings = Settings()
app = Celery("topwork", broker=settings.broker)
app.conf.update(
    task_acks_late=False,  # the lease, not the broker, brings a lost job back
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    task_default_queue="topwork",
    worker_pool="threads",  # each thread waits for a child process
    worker_concurrency=settings.worker_slots,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,  # a message behind a long job is left for another worker
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={"socket_connect_timeout": 5, "socket_keepalive": True},
)

CHILD: Sequence[str] = (sys.executable, "-P", "-m", "worker.child")
stopping = threading.Event()


@app.task(name="topwork.look")  # type: ignore[untyped-decorator]
def look(job_id: str) -> None:
    """There is work, that job at least: take the best queued job and see it through, until none is left."""
    while not stopping.is_set():
        try:
            with database().begin() as session:
                job = jobs.claim_next(session, _name(), settings.lease_s, settings.max_running)
        except SQLAlchemyError as error:
            log.warning("job %s: cannot look at it, the relay will remind: %s", job_id, error)
            return
        if job is None:
            return
        Supervisor(job, database(), storage(), settings, CHILD, stopping).run()


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


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _log(loglevel: int | str | None = None, **_: Any) -> None:
    log_to_stderr()


def log_to_stderr() -> None:
    """One line a record, on stderr; Celery leaves the root logger to us."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)  # a line for each message says nothing
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _ready(**_: Any) -> None:
    try:
        tidy_work_folders(database(), settings.work_dir)
    except SQLAlchemyError as error:
        log.warning("cannot tidy the work folders: %s", error)
    threading.Thread(target=announce, args=(database(), _name(), settings.worker_slots, stopping), daemon=True).start()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop(**_: Any) -> None:
    # Celery now waits for the running tasks; each sees the event, ends its child and gives the job back.
    stopping.set()
