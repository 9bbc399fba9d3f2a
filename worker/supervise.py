"""One claimed job, from its inputs to its verdict: the child process does the work, the supervisor keeps the ledger.

Each attempt has a folder of its own, work/<job_id>/<attempt>/, so that a child that outlived its lease can never
write where its successor reads; what the next attempt resumes from goes through the storage. In the folder:

    request.json  the specification, the model's folder, the data sets, the folder of what jobs share
    inputs/       data sets as Parquet
    state/        what a resumed job starts from; the child saves it anew
    output/       the files to publish
    tmp/          the child's temporary files
    model.json    which model that state is of
    log.txt       the child's stderr

Slow steps (fetching, storing) run in a thread beside, while the loop goes on to extend the lease and to look for a
cancel, the time limit, the worker's end. The database may be away for a while: messages are kept until it is back.
So may the storage: what must come from there, or go there, waits. A job whose model's hub is away waits in the queue.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import copy_context
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from core.ledger import datasets
from core.ledger.database import READ_ONLY_NOW, Database
from core.ledger.files.storage import DamagedError, Storage, StorageAwayError
from core.ledger.jobs import attempts, queries, states
from core.ledger.settings import Settings
from core.ledger.tables import Job
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from core.spec.messages import (
    NO_ROOM,
    Done,
    Failed,
    Fault,
    Fitted,
    LatencyMeasured,
    Message,
    Note,
    Saved,
    SizeTrained,
    StageBegun,
    StageProgress,
    parse,
)
from worker import models
from worker.process import TICK_S, ChildProcess, LineTooLongError, without_paths
from worker.tidy import remove_if_empty, used_blobs

AWAY_S = 5.0  # between tries while the storage is away
HUB_S = 600.0  # that a job waits for a hub, in the queue: it keeps no worker from others
STOP_WRITE_S = 5.0  # how long a worker that was told to stop tries to give its job back
MAX_NOTES = 200
MODEL = "model.json"  # beside the state, and in it: which model it is of, by its commit or what it holds
BLAMELESS = 1000  # attempts at most that cost a job none: beyond, what breaks them off may be its own size

log = logging.getLogger("topwork.job")

T = TypeVar("T")


class Ended(Exception):
    """The attempt is over before its child said so: why, and what the ledger is told."""

    def __init__(
        self, verdict: Literal["cancelled", "released", "retry", "failed", "away"], reason: str, code: str = ""
    ) -> None:
        super().__init__(reason)
        self.verdict, self.reason, self.code = verdict, reason, code


class Supervisor:
    """Runs one attempt; `run` returns when it is over and never raises for what the child or the user did."""

    def __init__(
        self,
        job: Job,
        database: Database,
        storage: Storage,
        settings: Settings,
        command: Sequence[str],
        stopping: threading.Event,
        gpus: Sequence[str] = (),
    ) -> None:
        """`gpus`: ids of those that the job may use; none: whatever the worker may."""
        self.job, self.spec, self.attempt = job, JobSpec.model_validate(job.spec), job.attempt
        self.database, self.storage, self.settings = database, storage, settings
        self.command, self.stopping, self.gpus = command, stopping, gpus
        self.folder = settings.work_dir.resolve() / job.id / str(job.attempt)
        self.child: ChildProcess | None = None
        self._deadline = time.monotonic() + self.spec.limits.max_runtime_s
        self._next_beat = 0.0
        self._status = "running"
        self._notes = 0
        self._broke = False
        self.blameless = False  # the job is, for an attempt that broke off: it was the worker's fault alone
        self._prepared = False
        self._away = self._told = ""  # what the attempt waits for, and what its events say of that
        self._over = threading.Event()
        self._pending: list[Message] = []  # not in the ledger yet
        self._stored: dict[tuple[int, int, int], tuple[str, int]] = {}  # (inode, mtime, size) -> (sha256, size)
        self._saved: dict[str, tuple[str, int]] = {}  # the state in the ledger: path -> (sha256, size)

    def run(self) -> bool:
        """See the attempt through; whether it came to a verdict on the job, and did not break off."""
        log.info("claimed, attempt %d of %d", self.attempt, self.job.max_attempts)
        try:
            self._tell(self._attempt())
        except states.LeaseLostError as lost:
            log.warning("%s; its work is dropped", lost)
        except Exception:
            log.exception("the supervisor failed; the job is tried again")
            self._broke = True
            with suppress(Exception):  # else the lease expires
                self._tell(
                    lambda session: attempts.give_back(
                        session, self.job.id, self.attempt, "its worker failed: see its log"
                    )
                )
        finally:
            self._over.set()
            self._end_child()
            shutil.rmtree(self.folder, ignore_errors=True)
            remove_if_empty(self.folder.parent)
        return not self._broke

    # --- the course of an attempt -----------------------------------------------------------------------------

    def _attempt(self) -> Callable[[Session], None]:
        """Do everything but the last write; returns that write."""
        job_id, attempt = self.job.id, self.attempt
        try:
            self._aside(self._prepare)
            self._prepared = True
            last = self._listen(self._start())
            self._end_child()
            if isinstance(last, Failed):
                error = _error(last.error)
                return lambda session: attempts.fail(session, job_id, attempt, error)
            outputs = self._aside(lambda: self._patiently(lambda: self._store(self.folder / "output")))
            metrics = last.metrics
            return lambda session: attempts.succeed(session, job_id, attempt, metrics, outputs)
        except Ended as ended:
            reason = ended.reason
            log.info("%s: %s", ended.verdict, reason.partition(": ")[0])  # what follows may quote a row
            if ended.verdict == "cancelled":
                return lambda session: attempts.stopped(session, job_id, attempt)
            if ended.verdict == "away":
                return lambda session: self._put_off(session, reason)
            if ended.verdict == "released":
                return lambda session: attempts.release(session, job_id, attempt, reason)
            if ended.verdict == "retry":
                self._broke = True
                return lambda session: attempts.give_back(session, job_id, attempt, reason)
            error = {"code": ended.code, "message": reason}
            return lambda session: attempts.fail(session, job_id, attempt, error)
        except SpecError as problem:
            error = {"code": "invalid", "field": problem.field, "message": problem.message}
            return lambda session: attempts.fail(session, job_id, attempt, error)
        except OSError as problem:
            log.warning("%s", problem)
            self._broke = True
            reason = f"the worker could not read or write a file: {problem.strerror or without_paths(str(problem))}"
            self.blameless = not isinstance(problem, FileNotFoundError | DamagedError)
            counts = not self.blameless or attempt > BLAMELESS
            return lambda session: attempts.give_back(session, job_id, attempt, reason, counts=counts)
        finally:
            self._end_child()

    def _prepare(self) -> None:
        """Fetch what the child reads; raises SpecError where the request cannot be met."""
        for earlier in range(1, self.attempt + 1):  # of a worker that was killed; their attempts are over
            shutil.rmtree(self.folder.with_name(str(earlier)), ignore_errors=True)
        for name in ("inputs", "state", "output", "tmp"):
            (self.folder / name).mkdir(parents=True)
        inputs, names = {}, {}
        for pointer, dataset_id in self.spec.dataset_ids().items():
            dataset = self._read(partial(datasets.find, tenant_id=self.job.tenant_id, dataset_id=dataset_id))
            if dataset is None:
                raise SpecError(pointer, f"the data set {dataset_id} was deleted; upload it again")
            inputs[dataset_id] = f"inputs/{dataset_id}.parquet"
            names[dataset_id] = dataset.name
            self._fetch(dataset.sha256, self.folder / inputs[dataset_id])
        self._restore_state()
        pinned = self.folder / "state" / MODEL  # a branch may have moved since, a local folder be another
        before = json.loads(pinned.read_text()) if pinned.exists() else None
        name = before["name"] if before else self.spec.model
        try:
            model = models.resolve(name, self.settings)
        except StorageAwayError as error:
            raise Ended("away", str(error)) from error
        if model.revision:
            found = {"name": f"{model.name}@{model.revision}"}
        else:
            found = {"name": model.name, "sha256": models.content(model.path)}
        if before and found != before:
            self._start_afresh("it is of another model of that name")
        (self.folder / MODEL).write_text(json.dumps(found))
        request = {
            "spec": self.spec.model_dump(mode="json", exclude={"webhook"}),  # its URL may hold a secret of the receiver
            "model": asdict(model) | {"path": str(model.path.resolve())},
            "datasets": inputs,
            "names": names,
            "cache": str(self.settings.cache_dir.resolve()),
            "processes": self.spec.resources.gpus or 1,
            "log": {"job": self.job.id, "attempt": self.attempt},
        }
        (self.folder / "request.json").write_text(json.dumps(request))

    def _restore_state(self) -> None:
        saved = self._read(lambda session: queries.files(session, self.job.id, "state"))
        self._saved = {file.path: (file.sha256, file.size_bytes) for file in saved}
        try:
            for file in saved:
                self._fetch(file.sha256, self.folder / "state" / Path(file.path).name)
        except (FileNotFoundError, DamagedError) as error:
            self._start_afresh(str(error))

    def _start_afresh(self, reason: str) -> None:
        log.warning("the saved state cannot be gone on from, starting afresh: %s", reason)
        shutil.rmtree(self.folder / "state")
        (self.folder / "state").mkdir()

    def _start(self) -> ChildProcess:
        variables = {
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            # Threads that spin while they wait take the cores from whatever else runs here, and from each other.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
            "PYTHONUNBUFFERED": "1",
            "SUPERVISOR_PID": str(os.getpid()),
            "TMPDIR": str(self.folder / "tmp"),  # which goes with the attempt, however it ends
            "TORCHINDUCTOR_CACHE_DIR": str(self.settings.cache_dir.resolve() / "inductor"),  # which stays
        }
        if self.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        self.child = ChildProcess(self.command, self.folder, variables)
        return self.child

    def _listen(self, child: ChildProcess) -> Done | Failed:
        """Take in what the child says, to its last line. Raises Ended if it dies or falls silent."""
        heard = time.monotonic()
        try:
            for line in child.lines():
                if line:
                    heard = time.monotonic()
                    message = parse(line)
                    if isinstance(message, Done | Failed):
                        for _ in child.leaving():
                            self._tick()
                        return message
                    self._take(message)
                elif time.monotonic() - heard > self.settings.silence_s:
                    raise Ended("retry", f"its process reported nothing for {self.settings.silence_s:g} s")
                self._tick()
        except LineTooLongError as error:
            raise Ended("retry", str(error)) from error
        if child.exit_code == NO_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise Ended("retry", child.last_words())

    def _take(self, message: Message | None) -> None:
        match message:
            case Saved():
                folder = self.folder / message.folder
                if folder.resolve().is_relative_to(self.folder) and folder.is_dir():
                    if not _is_behind(folder):
                        self._save(folder)
                    if folder.name != "state":
                        shutil.rmtree(folder, ignore_errors=True)
            case StageBegun():
                log.info("stage %s", message.stage)
                self._pending.append(message)
                self._next_beat = 0.0
            case StageProgress():
                if self._pending and isinstance(self._pending[-1], StageProgress):
                    self._pending.pop()
                self._pending.append(message)
            case LatencyMeasured():
                self._pending.append(message)
            case Fitted() | SizeTrained() if self._notes < MAX_NOTES:
                self._notes += 1
                self._pending.append(message)
            case Note() if self._notes < MAX_NOTES:
                self._notes += 1
                self._pending.append(Note(message=message.message[:2000]))

    def _save(self, folder: Path) -> None:
        """Make the files of `folder` what the next attempt starts from; where there is no space, the earlier stay."""
        before = {sha256 for path, (sha256, _) in self._saved.items() if path != MODEL}  # which other jobs' may equal
        try:
            if self._prepared:
                (folder / MODEL).unlink(missing_ok=True)
                os.link(self.folder / MODEL, folder / MODEL)  # one file, which is put once
            self._saved = saved = self._aside(lambda: self._store(folder))
        except OSError as error:
            log.warning("cannot store the state: %s", error)
            return

        def write(session: Session) -> None:
            for message in self._pending:  # how far it is, before what is kept of it
                attempts.report(session, self.job.id, self.attempt, message.to_json())
            attempts.save_state(session, self.job.id, self.attempt, saved)

        self._write(write)
        self._pending.clear()
        rows = saved.values()
        self._stored = {key: put for key, put in self._stored.items() if put in rows}  # the rest is dropped
        self._aside(lambda: self._drop(before - {sha256 for sha256, _ in saved.values()}))

    def _drop(self, replaced: set[str]) -> None:
        """Remove saved files that later ones have replaced: a long job would fill the disk before the relay tidies."""
        used = self._read(lambda session: used_blobs(session, list(replaced)))
        try:
            for sha256 in replaced - used:
                self.storage.delete(sha256)
        except OSError as error:  # the relay tidies
            log.warning("cannot remove an earlier state: %s", error)

    def _fetch(self, sha256: str, target: Path) -> None:
        self._patiently(lambda: self.storage.fetch(sha256, target))

    def _put_off(self, session: Session, reason: str) -> None:
        """The hub is away: others may have the worker, until this job has waited for too long."""
        if not attempts.put_off(session, self.job.id, self.attempt, reason, HUB_S):
            mend = "retry the job later, or have the operator put the model's folder into the models folder"
            error = {"code": "hub_away", "message": f"for {HUB_S:.0f} s {reason}; {mend}"}
            attempts.fail(session, self.job.id, self.attempt, error)

    def _patiently(self, work: Callable[[], T]) -> T:
        """Do something, in a thread beside, that may have to wait for the storage to come back."""
        while True:
            try:
                done = work()
                self._away = ""
                return done
            except StorageAwayError as error:
                self._away = str(error)
                log.warning("waiting: %s", error)
                if self._over.wait(AWAY_S):
                    raise

    def _store(self, folder: Path) -> dict[str, tuple[str, int]]:
        """Put the files of a folder into storage; those that it has, and keeps, are not copied again."""
        stored = {}
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            status = path.stat()
            key = (status.st_ino, status.st_mtime_ns, status.st_size)
            if key not in self._stored:
                self._stored[key] = self.storage.put(path)
            stored[path.relative_to(folder).as_posix()] = self._stored[key]
        return stored

    # --- what goes on beside it -------------------------------------------------------------------------------

    def _tick(self) -> None:
        """What must not wait: called many times a second. Raises Ended and LeaseLostError."""
        now = time.monotonic()
        if self.stopping.is_set():
            raise Ended("released", "its worker was stopped")
        if now >= self._next_beat:
            self._beat()
        if self._status == "cancelling":
            raise Ended("cancelled", "asked for")
        if now > self._deadline:
            told = f"ran longer than limits.max_runtime_s = {self.spec.limits.max_runtime_s}"
            mend = "raise it, or lower train.steps"
            if not self._prepared:
                told += " while its inputs were still being fetched"
                mend = "retry it later, or raise that limit"
            told += f" ({self._away})" if self._away else ""
            raise Ended("failed", f"{told}; {mend}", code="time_limit")

    def _beat(self) -> None:
        self._next_beat = time.monotonic() + self.settings.heartbeat_s
        if self._away and self._away != self._told:
            self._told = self._away
            self._pending.append(Note(message=f"waiting: {self._away}"))
        try:
            with self.database.begin() as session:
                self._status = attempts.beat(session, self.job.id, self.attempt, self.settings.lease_s)
                for message in self._pending:
                    attempts.report(session, self.job.id, self.attempt, message.to_json())
            self._pending.clear()
        except (DBAPIError, PoolTimeoutError) as error:
            if not _transient(error):
                raise
            # The child goes on: if the lease is lost meanwhile, the first beat that gets through says so.
            log.warning("the database is away: %s", _first_line(error))

    def _aside(self, work: Callable[[], T]) -> T:
        """Do something slow in a thread, and go on ticking. If a tick ends the attempt, the thread is left alone."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=copy_context().run, args=(run,), daemon=True).start()
        while not future.done():
            self._tick()
            wait([future], timeout=TICK_S)
        return future.result()

    def _read(self, query: Callable[[Session], T]) -> T:
        """A read, in a thread beside, that may have to wait for the database to come back."""
        while True:
            try:
                with self.database.read() as session:
                    return query(session)
            except (DBAPIError, PoolTimeoutError) as error:
                if not _transient(error) or self._over.wait(TICK_S * 5):
                    raise

    def _write(self, write: Callable[[Session], None]) -> None:
        """A write that may have to wait for the database to come back."""
        while True:
            try:
                with self.database.begin() as session:
                    return write(session)
            except (DBAPIError, PoolTimeoutError) as error:
                if not _transient(error):
                    raise
                log.warning("the database is away: %s", _first_line(error))
            self._tick()
            time.sleep(TICK_S)

    def _tell(self, verdict: Callable[[Session], None]) -> None:
        """Write how the attempt ended, with all that it reported before."""
        pending, self._pending = self._pending, []

        def write(session: Session) -> None:
            for message in pending:
                attempts.report(session, self.job.id, self.attempt, message.to_json())
            verdict(session)

        given_up = None
        while True:
            try:
                with self.database.begin() as session:
                    write(session)
                log.info("attempt %d is over", self.attempt)
                return
            except states.IllegalTransitionError:
                verdict = lambda session: attempts.stopped(session, self.job.id, self.attempt)  # noqa: E731  cancelled meanwhile
            except (DBAPIError, PoolTimeoutError) as error:
                if not _transient(error):
                    raise
                log.warning("the database is away: %s", _first_line(error))
                if self.stopping.is_set():
                    given_up = given_up or time.monotonic() + STOP_WRITE_S
                    if time.monotonic() > given_up:
                        raise
                time.sleep(TICK_S * 5)

    def _end_child(self) -> None:
        child, self.child = self.child, None
        if child is not None:
            child.end()


def _is_behind(folder: Path) -> bool:
    """Whether the child has saved again meanwhile: then the later state is the one to store."""
    return folder.name.isdecimal() and folder.with_name(str(int(folder.name) + 1)).exists()


def _error(said: Fault) -> dict[str, Any]:
    """What the child failed with, in the form that clients are promised."""
    error = said.to_json()
    if said.code == "error":
        error["message"] = f"{without_paths(said.message)}; please report this, with what the job asks for"
    return error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _transient(error: Exception) -> bool:
    """Whether it may pass by itself: the database is away, locked or restarting."""
    if isinstance(error, DBAPIError):
        read_only = getattr(error.orig, "sqlstate", None) == READ_ONLY_NOW
        return error.connection_invalidated or read_only or isinstance(error, OperationalError)
    return True
