"""The relay: `python -m worker.relay`. Carries announcements from the ledger to the broker, returns jobs whose worker
fell silent, reminds of jobs that nobody took, sends messages to webhooks, removes what is no longer used, and reads
stored files again. Any number may run at once.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import httpx
from kombu.connection import Connection
from kombu.exceptions import OperationalError as BrokerError
from redis import RedisError
from sqlalchemy.exc import SQLAlchemyError

from core.ledger import tallies, webhooks
from core.ledger.database import Database
from core.ledger.files import uploads
from core.ledger.files.private import keep_private
from core.ledger.files.stores import open_storage
from core.ledger.jobs import upkeep
from core.ledger.settings import Settings
from core.ledger.tables import clock_ms
from worker.app import app, database, log_to_stderr, require_schema, settings
from worker.health import trace
from worker.scrub import Scrub
from worker.tidy import tidy_work_folders, used_blobs
from worker.webhooks import RefusedError, post

log = logging.getLogger("topwork.relay")

PUBLISH_S = 0.25
REMIND_S = 5.0
DELIVER_S = 0.25
POSTMEN = 4
TIDY_S = 600.0
KEEP_BLOBS_S = 3600.0  # longer than from putting a file to committing its row, but for attempts that run
KEEP_STATES_S = 24 * 3600.0  # what a failed or cancelled job could be resumed from
KEEP_UPLOADS_S = 24 * 3600.0
MAX_BACK_OFF_S = 10.0
JUMP_S = 1.0  # the database's clock against the time that passes here: more is no drift


class Relay:
    """What is due is done at each `step`; a broker or database that is away is waited for."""

    def __init__(self, database: Database, settings: Settings, remind_after_s: float = 30.0) -> None:
        self.database, self.settings, self.remind_after_s = database, settings, remind_after_s
        self.storage = open_storage(settings)
        self._due: dict[str, float] = {}
        self._back_off_s = 0.0
        self._mourning_until = 0.0
        self._clock: float | None = None  # the database's, less the time that passes here
        self._postmen = ThreadPoolExecutor(POSTMEN, "webhook")
        self._tidying = threading.Thread()
        self._posting: dict[Future[None], str] = {}  # whose message it is

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop."""
        self._mourn()  # the database may have been away until now
        threading.Thread(target=Scrub(self.database, self.storage, stop).run, daemon=True).start()
        while not stop.wait(PUBLISH_S):
            self.step()

    def step(self) -> None:
        """Do what is due, and leave a trace of it for the health check."""
        self._do("publish", PUBLISH_S, self.publish)
        self._do("reap", max(0.25, min(1.0, self.settings.lease_s / 5)), self.reap)
        self._do("remind", min(REMIND_S, self.remind_after_s), self.remind)
        self._do("deliver", DELIVER_S, self.deliver)
        if not (self._mourns() or self._tidying.is_alive()) and self._is_due("tidy"):
            # Beside: a large bucket takes a while to list.
            self._tidying = threading.Thread(target=self._do, args=("tidy", TIDY_S, self.tidy), daemon=True)
            self._tidying.start()
        with suppress(OSError):  # a full disk, which the health check then tells
            self.settings.data_dir.mkdir(parents=True, exist_ok=True)
            trace(self.settings).touch()

    def publish(self) -> int:
        """Send the announcements of the outbox; what the broker has is deleted. Returns how many."""
        with self.database.read() as session:
            rows = upkeep.outbox(session)
        if not rows:
            return 0
        with _broker() as connection, app.amqp.Producer(connection) as producer:
            for row in rows:
                app.send_task("topwork.look", [row.job_id], producer=producer, retry=False)
        with self.database.begin() as session:
            upkeep.published(session, [row.id for row in rows])
        self._back_off_s = 0.0
        return len(rows)

    def reap(self) -> list[str]:
        """Return jobs to the queue whose worker let the lease expire."""
        if self._mourns():
            return []
        with self.database.begin() as session:
            before, self._clock = self._clock, clock_ms(session) / 1000 - time.monotonic()
            if before is not None and abs(self._clock - before) > JUMP_S:
                log.warning("the clock jumped by %+.1f s: every lease begins anew", self._clock - before)
                upkeep.renew(session, self.settings.lease_s)
            reaped = upkeep.reap(session)
        for job_id in reaped:
            log.warning("job %s: its worker fell silent", job_id)
        return reaped

    def remind(self) -> list[str]:
        """Announce queued jobs again, once the broker holds no message any more: what it held may be lost.

        A broker that still holds messages has waiting work for the workers; more would only pile up.
        """
        with _broker() as connection, connection.channel() as channel:
            try:
                waiting = channel.queue_declare(app.conf.task_default_queue, passive=True).message_count
            except connection.channel_errors:  # no such queue: it is empty
                waiting = 0
        if waiting:
            return []
        with self.database.begin() as session:
            return upkeep.remind(session, self.remind_after_s)

    def deliver(self) -> None:
        """Hand the webhook messages that are due to threads beside, one a tenant at a time."""
        self._posting = {posting: tenant for posting, tenant in self._posting.items() if not posting.done()}
        free = POSTMEN - len(self._posting)
        with self.database.read() as session:
            if not free or not webhooks.any_due(session):
                return
        with self.database.begin() as session:
            letters = webhooks.take(session, free, list(self._posting.values()))
        self._posting |= {self._postmen.submit(self._post, letter): letter.tenant_id for letter in letters}

    def _post(self, letter: webhooks.Letter) -> None:
        try:
            try:
                status = post(letter, self.settings.webhook_allow_private)
            except Exception as error:
                strange = not isinstance(error, RefusedError | httpx.HTTPError | OSError)  # it would be so each time
                for_good = strange or (isinstance(error, RefusedError) and error.for_good)
                with self.database.begin() as session:
                    answered = getattr(error, "status", None)
                    given_up = webhooks.failed(session, letter.id, answered, for_good=for_good)
                # The receiver's host is the tenant's alone: errors of other libraries may quote it.
                reason = error if isinstance(error, RefusedError) else type(error).__name__
                log.warning("webhook %s%s: %s", letter.id, " is given up" * given_up, reason, exc_info=strange)
            else:
                with self.database.begin() as session:
                    webhooks.delivered(session, letter.id, status)
        except SQLAlchemyError as error:  # it is sent again, under the same id
            log.warning("webhook %s: the database is away: %s", letter.id, error)

    def tidy(self) -> None:
        """Remove work folders of ended attempts, states and uploads that nobody came back for, files without a row.

        Files that a running attempt has put stay, however long it takes to put all of them.
        """
        try:
            with self.database.begin() as session:
                upkeep.forget_states(session, KEEP_STATES_S)
                uploads.forget(session, KEEP_UPLOADS_S)
                tallies.compact(session)
        finally:  # a full disk, which has no space for these writes, is what the rest may mend
            self._sweep()

    def _sweep(self) -> None:
        try:
            tidy_work_folders(self.database, self.settings.work_dir)
            with self.database.read() as session:
                running_s = upkeep.running_for_s(session)
            self.storage.sweep(self._used, KEEP_BLOBS_S + max(0.0, running_s))
        except OSError as error:  # of the disk or the storage; it does not touch what else the relay does
            log.warning("cannot tidy: %s", error)

    def _used(self, names: Sequence[str]) -> set[str]:
        with self.database.read() as session:
            return used_blobs(session, list(names))

    def _mourn(self) -> None:
        """Let workers extend their leases, and write what they could not, before any is reaped and files are swept."""
        self._mourning_until = time.monotonic() + self.settings.lease_s

    def _mourns(self) -> bool:
        return time.monotonic() < self._mourning_until

    def _is_due(self, name: str) -> bool:
        return time.monotonic() >= self._due.get(name, 0.0)

    def _do(self, name: str, every_s: float, action: Callable[[], object]) -> None:
        if not self._is_due(name):
            return
        self._due[name] = time.monotonic() + every_s
        try:
            action()
        except SQLAlchemyError as error:
            log.warning("%s: the database is away: %s", name, str(error).partition("\n")[0])
            if name in ("publish", "reap"):
                self._mourn()
            self._due[name] = time.monotonic() + max(1.0, every_s / 10)
        except (BrokerError, RedisError, OSError) as error:
            self._back_off_s = min(MAX_BACK_OFF_S, 2 * self._back_off_s or 0.5)
            log.warning("%s: the broker is away, next try in %g s: %s", name, self._back_off_s, error)
            self._due[name] = time.monotonic() + self._back_off_s
        except Exception:
            log.exception("%s failed", name)
            self._due[name] = time.monotonic() + max(MAX_BACK_OFF_S, every_s / 10)


def _broker() -> Connection:
    """A connection that fails at once where the broker is away or frozen, instead of trying for ever."""
    options = {**app.conf.broker_transport_options, "max_retries": 0, "socket_timeout": 5}
    connection: Connection = app.connection_for_write(transport_options=options)
    return connection


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    log_to_stderr()
    keep_private(settings.data_dir)
    require_schema(database())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Relay(database(), settings).run(stop)
    trace(settings).unlink(missing_ok=True)
    database().close()


if __name__ == "__main__":
    main()
