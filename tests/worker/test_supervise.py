"""One attempt under its supervisor, with a real child process that misbehaves as told."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, Literal

import psycopg
import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from core.ledger.database import Database
from core.ledger.files.storage import LocalStorage, StorageAwayError
from core.ledger.jobs import claims, queries, upkeep
from core.ledger.settings import Settings
from core.ledger.tables import Job
from tests.worker.conftest import House
from worker import app, models, process, supervise
from worker.app import Rest
from worker.supervise import Supervisor

FAKE_CHILD = (sys.executable, str(Path(__file__).with_name("fake_child.py")))


def claim(house: House, job_id: str, **options: Any) -> Supervisor:
    settings = house.settings.model_copy(update=options.pop("settings", {}))
    with house.database.begin() as session:
        job = claims.claim(session, job_id, "worker", settings.lease_s)
        assert job is not None
    arguments: dict[str, Any] = {
        "database": house.database,
        "storage": house.storage,
        "settings": settings,
        "command": FAKE_CHILD,
        "stopping": threading.Event(),
    }
    return Supervisor(job, **arguments | options)


@contextmanager
def running(supervisor: Supervisor) -> Any:
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield
    finally:
        thread.join(120)
        assert not thread.is_alive()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def child_pids(house: House) -> list[int]:
    return [int(path.name.rpartition("-")[2]) for path in house.traces.iterdir()]


def test_a_job_succeeds_with_its_files_metrics_and_events(house: House) -> None:
    job_id = house.new_job()
    claim(house, job_id).run()
    job = house.job(job_id)
    assert (job.status, job.error, job.metrics) == ("succeeded", None, {"steps": 3, "attempt": 1})
    assert job.stage == "teach" and job.progress["step"] == 3
    with house.database.read() as session:
        files = {file.path: file for file in queries.files(session, job_id)}
        events = [event.type for event in queries.events(session, job_id, 0, 100)]
    assert list(files) == ["model.safetensors", "sub/report.json"]  # a link that leads elsewhere is no output
    weights = files["model.safetensors"]
    assert (weights.sha256, weights.size_bytes) == (hashlib.sha256(b"weights").hexdigest(), 7)
    with house.storage.open(weights.sha256) as data:
        assert data.read() == b"weights"
    assert events[:3] == ["status", "status", "stage"] and events[-1] == "status" and "progress" in events
    assert not (house.settings.work_dir / job_id).exists()


def test_the_child_sees_no_secrets_and_no_settings(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOPWORK_DATABASE_URL", "TOPWORK_BROKER_URL", "TOPWORK_STORAGE_URL", "TOPWORK_KEY", "PGPASSWORD"):
        monkeypatch.setenv(name, "s3cret")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "HTTPS_PROXY", "WHATEVER_COMES"):
        monkeypatch.setenv(name, "s3cret")
    job_id = house.new_job()
    claim(house, job_id).run()
    environment = json.loads(house.starts(job_id)[0].read_text())
    assert "s3cret" not in json.dumps(environment) and not [name for name in environment if "TOPWORK" in name]
    assert environment["HF_HUB_OFFLINE"] == "1" and environment["PATH"] == os.environ["PATH"]


def test_a_job_sees_the_gpus_that_it_was_given(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setenv("NCCL_P2P_DISABLE", "1")
    for gpus, seen, processes in ((["GPU-2", "GPU-3"], "GPU-2,GPU-3", 2), ([], "0,1,2,3", 1)):
        job_id = house.new_job(resources={"gpus": processes})
        claim(house, job_id, gpus=gpus).run()
        environment = json.loads(house.starts(job_id)[0].read_text())
        assert (environment["CUDA_VISIBLE_DEVICES"], environment["processes"]) == (seen, processes)
        assert environment["NCCL_P2P_DISABLE"] == "1"


def test_a_fault_of_the_request_fails_the_job_at_once(house: House) -> None:
    job_id = house.new_job("spec error")
    claim(house, job_id).run()
    job = house.job(job_id)
    assert (job.status, job.attempt) == ("failed", 1)
    assert job.error == {"code": "invalid", "field": "/budget/params", "message": "out of reach"}


def test_a_deleted_data_set_and_an_unknown_model_name_their_field(house: House) -> None:
    gone = f"ds_{'f' * 32}"
    for changes, field in (
        ({"task": {"data": {"dataset": gone}}}, "/task/data/dataset"),
        ({"model": "unknown"}, "/model"),
    ):
        job_id = house.new_job(**changes)
        claim(house, job_id).run()
        error = house.job(job_id).error
        assert error is not None and error["field"] == field and house.job(job_id).status == "failed"
        assert not house.starts(job_id)


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("crash", "its process exited with code 1: RuntimeError: no such file: …"),
        ("killed", "its process was killed by SIGKILL (out of memory?)"),
        ("exit quietly", "its process exited with code 0"),
        ("shared 1", "its process exited with code 1: [rank1]: RuntimeError: CUDA out of memory"),
        ("shared -9", "one of its processes was killed by SIGKILL (out of memory?)"),
    ],
)
def test_a_child_that_dies_is_tried_again_up_to_the_cap(house: House, do: str, reason: str) -> None:
    job_id = house.new_job(do, max_attempts=2)
    claim(house, job_id).run()
    assert house.job(job_id).status == "queued"
    claim(house, job_id).run()
    job = house.job(job_id)
    assert job.status == "failed" and job.error is not None and job.error["code"] == "attempts_exhausted"
    assert reason in job.error["message"] and str(house.settings.data_dir) not in job.error["message"]
    assert [outcome for outcome, _ in house.outcomes(job_id)] == ["lost", "failed"]


def test_the_next_attempt_goes_on_where_the_last_one_saved(house: House) -> None:
    job_id = house.new_job("crash once", steps=4)
    claim(house, job_id).run()
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"
    assert house.notes(job_id) == ["starting at step 0", "starting at step 2"]


def test_of_a_state_only_the_last_stays_in_storage(house: House) -> None:
    job_id = house.new_job("crash late", steps=6)
    claim(house, job_id).run()
    with house.database.read() as session:
        saved = {file.path: file.sha256 for file in queries.files(session, job_id, "state")}
    stored = {path.name for path in house.settings.blobs_dir.rglob("*") if path.is_file()}
    assert saved.keys() == {"step.json", "model.json"}
    assert len(stored) == 3 and {*saved.values()} < stored  # and the data set


class SlowStorage(LocalStorage):
    """Takes as long as the child needs for three saves, of `saves` in all."""

    puts, saves = 0, 11

    def put(self, source: Path) -> tuple[str, int]:
        self.puts += 1
        if source.parent.name.isdecimal():
            later = source.parent.with_name(str(min(int(source.parent.name) + 3, self.saves)))
            while not later.exists():
                time.sleep(0.02)
        return super().put(source)


def test_a_slow_storage_falls_behind_by_one_save_and_no_more(house: House) -> None:
    job_id = house.new_job("crash late", steps=12)
    storage = SlowStorage(house.settings.blobs_dir)
    claim(house, job_id, storage=storage).run()
    assert storage.puts < 8
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"
    assert house.notes(job_id) == ["starting at step 0", "starting at step 11"]


def test_a_damaged_state_is_dropped_and_the_job_starts_afresh(house: House) -> None:
    job_id = house.new_job("crash once")
    claim(house, job_id).run()
    with house.database.read() as session:
        _, saved = queries.files(session, job_id, "state")
    house.storage.path(saved.sha256).write_bytes(b"damaged")
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"
    assert house.notes(job_id)[-1] == "starting at step 0"


def test_a_cancel_ends_child_and_grandchildren_at_the_next_beat(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """As defaults are, that is within three seconds."""
    assert Settings().heartbeat_s + process.TICK_S + process.GRACE_S < 3
    job_id, seen = house.new_job("hang"), list[str]()
    supervisor = claim(house, job_id)
    beat = supervisor._beat

    def watched() -> None:
        beat()
        seen.append(supervisor._status)

    monkeypatch.setattr(supervisor, "_beat", watched)
    with running(supervisor):
        house.wait(lambda: any(house.traces.glob("grandchild-*")))
        house.cancel(job_id)
        house.wait(lambda: house.job(job_id).status == "cancelled")
    assert not any(map(is_alive, child_pids(house)))
    assert house.job(job_id).error is None and seen.count("cancelling") == 1


def test_the_time_limit_fails_the_job(house: House) -> None:
    job_id = house.new_job("hang", limits={"max_runtime_s": 10})
    supervisor = claim(house, job_id)
    supervisor._deadline += 600
    with running(supervisor):
        house.wait(lambda: any(house.traces.glob("grandchild-*")))
        supervisor._deadline = 0.0
    job = house.job(job_id)
    assert job.status == "failed" and job.error is not None and job.error["code"] == "time_limit"
    assert "max_runtime_s = 10" in job.error["message"]
    assert not any(map(is_alive, child_pids(house)))


def test_a_silent_child_is_ended_and_tried_again(house: House) -> None:
    job_id = house.new_job("hang")
    claim(house, job_id, settings={"silence_s": 1.5}).run()
    assert house.job(job_id).status == "queued"
    assert house.outcomes(job_id) == [("lost", "its process reported nothing for 1.5 s")]
    assert not any(map(is_alive, child_pids(house)))


def test_a_worker_that_stops_gives_its_job_back_at_once_and_uncounted(house: House) -> None:
    job_id = house.new_job("hang once", max_attempts=1)
    stopping = threading.Event()
    with running(claim(house, job_id, stopping=stopping)):
        house.wait(lambda: any(house.traces.glob("grandchild-*")))
        stopping.set()
        house.wait(lambda: house.job(job_id).status == "queued")
    assert not any(map(is_alive, child_pids(house)))
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"


def test_a_lost_lease_ends_the_child_and_nothing_more_is_written(house: House) -> None:
    job_id = house.new_job("hang once")
    with running(claim(house, job_id)):
        house.wait(lambda: any(house.traces.glob("grandchild-*")))
        with house.database.begin() as session:
            session.execute(update(Job).where(Job.id == job_id).values(lease_until=1))
            assert upkeep.reap(session) == [job_id]
    assert not any(map(is_alive, child_pids(house)))
    assert house.job(job_id).status == "queued"
    claim(house, job_id).run()
    assert house.job(job_id).metrics == {"steps": 3, "attempt": 2}


def test_an_attempt_is_over_when_all_its_processes_are_gone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine it takes a while until what was killed has ended."""

    def late(group: int, number: int) -> None:
        if number == signal.SIGKILL and not seen:
            seen.append(group)
            os.kill(group, number)  # the child at once
            return threading.Timer(0.5, os.killpg, (group, number)).start()
        return killpg(group, number)

    seen, killpg = list[int](), os.killpg
    monkeypatch.setattr(process, "os", SimpleNamespace(**{**vars(os), "killpg": late}))
    job_id = house.new_job("hang")
    with running(claim(house, job_id)):
        house.wait(lambda: any(house.traces.glob("grandchild-*")))
        house.cancel(job_id)
    assert seen and not any(map(is_alive, child_pids(house)))


def test_a_cancel_that_comes_with_the_result_wins(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = house.new_job()
    supervisor = claim(house, job_id)
    tell = supervisor._tell

    def cancelled_just_before(verdict: Any) -> None:
        house.cancel(job_id)
        tell(verdict)

    monkeypatch.setattr(supervisor, "_tell", cancelled_just_before)
    supervisor.run()
    assert house.job(job_id).status == "cancelled"
    with house.database.read() as session:
        assert not queries.files(session, job_id)


class Unsteady(Database):
    """A database that can be away."""

    away = False

    @contextmanager
    def begin(self) -> Any:
        if self.away:
            raise OperationalError("BEGIN", {}, Exception("the server closed the connection"))
        with super().begin() as session:
            yield session


def test_a_database_that_is_away_for_a_while_costs_nothing(house: House, database_url: str) -> None:
    job_id = house.new_job(steps=15)
    database = Unsteady(database_url)
    with running(claim(house, job_id, database=database)):
        house.wait(lambda: house.job(job_id).progress.get("step", 0) >= 3)
        database.away = True
        time.sleep(1.0)
        database.away = False
    job = house.job(job_id)
    assert (job.status, job.attempt) == ("succeeded", 1)
    assert job.progress["step"] == 15
    database.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_connections_that_the_server_cuts_cost_nothing(house: House, postgresql: str) -> None:
    job_id = house.new_job(steps=15)
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname LIKE 'test_%'"
    )
    with running(claim(house, job_id)), psycopg.connect(postgresql.replace("+psycopg", ""), autocommit=True) as server:
        for _ in range(8):
            server.execute(cut)
            time.sleep(0.2)
    job = house.job(job_id)
    assert (job.status, job.attempt, job.progress.get("step")) == ("succeeded", 1, 15)


def test_a_child_that_said_done_but_stays_is_ended(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "EXIT_S", 0.3)
    job_id = house.new_job("linger")
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"
    assert not any(map(is_alive, child_pids(house)))


def test_a_child_that_floods_its_stdout_only_fills_its_log(house: House) -> None:
    job_id = house.new_job("flood")
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"


class FullStorage(LocalStorage):
    """No space for files of this name."""

    full = "model.safetensors"

    def put(self, source: Path) -> tuple[str, int]:
        if source.name == self.full:
            raise OSError(28, "No space left on device", str(source))
        return super().put(source)


def test_a_full_disk_at_the_end_is_tried_again(house: House) -> None:
    job_id = house.new_job()
    claim(house, job_id, storage=FullStorage(house.settings.blobs_dir)).run()
    assert house.job(job_id).status == "queued"
    assert "No space left on device" in str(house.outcomes(job_id)[0][1])
    assert claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"


def test_a_full_disk_costs_the_job_no_attempt(house: House) -> None:
    """Which its process tells by how it ends."""
    job_id = house.new_job("no room", max_attempts=1)
    supervisor = claim(house, job_id)
    assert not supervisor.run() and supervisor.blameless
    assert house.job(job_id).status == "queued"
    assert house.outcomes(job_id)[0][1] == "the worker could not read or write a file: No space left on device"


class FullFolder(LocalStorage):
    """No space to fetch to."""

    def fetch(self, sha256: str, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))


class LostStorage(LocalStorage):
    """Knows no file."""

    def open(self, sha256: str) -> BinaryIO:
        raise FileNotFoundError(sha256)


@pytest.mark.parametrize(("storage", "left"), [(FullFolder, 1), (LostStorage, 0)])
def test_a_fault_of_the_worker_alone_costs_no_attempt(house: House, storage: type[LocalStorage], left: int) -> None:
    job_id = house.new_job(max_attempts=1)
    supervisor = claim(house, job_id, storage=storage(house.settings.blobs_dir))
    assert not supervisor.run() and supervisor.blameless == bool(left)
    job = house.job(job_id)
    assert (job.status, job.max_attempts - job.attempt) == ("queued" if left else "failed", left)


def test_a_state_that_cannot_be_fetched_for_now_is_kept(house: House) -> None:
    """Only what is gone or damaged is given up."""
    job_id = house.new_job("crash late", steps=4)
    claim(house, job_id).run()
    with house.database.read() as session:
        saved = queries.files(session, job_id, "state")
    claim(house, job_id, storage=FullFolder(house.settings.blobs_dir)).run()
    claim(house, job_id).run()
    assert saved and house.job(job_id).status == "succeeded"
    assert int(house.notes(job_id)[-1].rpartition(" ")[2]) >= 1


def test_a_job_keeps_to_the_commit_that_it_began_with(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def resolve(name: str, settings: Settings) -> models.Resolved:
        asked.append(name)
        return models.Resolved(settings.models_dir / "tiny", "owner/name", name.partition("@")[2] or f"c{len(asked)}")

    monkeypatch.setattr(models, "resolve", resolve)
    job_id = house.new_job("crash late", steps=4, model="owner/name")
    for _ in range(2):
        claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded" and asked == ["owner/name", "owner/name@c1"]


@pytest.mark.field("3. Under attack", "a job that crashes", "rests alone; the worker takes others")
def test_a_job_whose_process_died_rests_alone_and_a_worker_whose_machine_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("worker.app.time.monotonic", lambda: now[0])
    rest = Rest()

    def rests(still: Callable[[], object], *attempts: tuple[str, Literal["well", "job", "machine"]]) -> list[float]:
        found = []
        for attempt in attempts:
            rest.after(*attempt)
            began = now[0]
            while still():
                now[0] += 0.5
            found.append(now[0] - began)
        return found

    def worker() -> bool:
        return not rest.over()

    assert rests(worker, *((name, "job") for name in "abcdefgh")) == [0] * 8  # others are taken at once
    assert rest.jobs() == {*"abcdefgh"} == rest.resting()
    rests(rest.resting)
    assert rests(rest.resting, *[("a", "job")] * 3) == [2, 4, 8]
    assert rests(rest.resting, ("a", "well"), ("a", "job")) == [0, 1]
    assert rests(worker, ("a", "machine"), ("b", "machine"), ("c", "well"), ("d", "machine")) == [1, 2, 0, 1]
    assert rests(worker, *[("a", "machine")] * 8)[-1] == 60
    for i in range(2000):
        rest.after(str(i), "job")
    assert len(rest.jobs()) <= 1001


def test_a_resting_job_is_left_alone(house: House) -> None:
    resting = house.new_job()
    with house.database.begin() as session:
        assert claims.claim_next(session, "w", 15, without={resting}) is None
        assert claims.claim_next(session, "w", 15, without={"job_other"}) is not None


def test_a_machine_is_well_where_a_process_can_compute_and_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(app, "settings", Settings(data_dir=tmp_path))
    assert app.is_well(())
    for code in ("raise OSError(28, 'No space left on device')", "import os; os.kill(os.getpid(), 9)"):
        monkeypatch.setattr(app, "PROBE", (sys.executable, "-c", code))
        assert not app.is_well(())


def test_a_supervisor_that_fails_gives_its_job_back_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    job_id = house.new_job()
    supervisor = claim(house, job_id)
    with monkeypatch.context() as patched:
        patched.setattr(supervise.threading.Thread, "start", full)
        assert not supervisor.run()
    assert (house.job(job_id).status, house.outcomes(job_id)[0][0]) == ("queued", "lost")
    assert claim(house, job_id).run()


def test_a_job_that_broke_off_here_comes_after_all_others(house: House) -> None:
    broken, other = (house.new_job(priority=priority) for priority in (9, 0))
    with house.database.begin() as session:
        found = [claims.claim_next(session, "w", 15, after={broken}) for _ in range(2)]
    assert [job and job.id for job in found] == [other, broken]


def test_a_job_is_not_tried_for_ever_where_its_size_may_be_at_fault(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "BLAMELESS", 2)
    job_id, starts = house.new_job(max_attempts=2), 0
    while house.job(job_id).status == "queued":
        starts += 1
        claim(house, job_id, storage=FullFolder(house.settings.blobs_dir)).run()
    job = house.job(job_id)
    assert (starts, job.status) == (4, "failed") and "No space left" in job.error["message"]


def test_a_state_is_of_the_model_that_lies_there(house: House) -> None:
    job_id = house.new_job("crash late", steps=4)
    claim(house, job_id).run()
    (house.settings.models_dir / "tiny" / "model.safetensors").write_bytes(b"another")
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded" and house.notes(job_id)[-1] == "starting at step 0"


def test_temporary_files_of_the_child_go_with_its_attempt(house: House) -> None:
    job_id = house.new_job()
    claim(house, job_id).run()
    environment = json.loads(house.starts(job_id)[0].read_text())
    assert Path(environment["TMPDIR"]) == house.settings.work_dir.resolve() / job_id / "1" / "tmp"
    assert not Path(environment["TMPDIR"]).exists()


def test_a_full_disk_on_the_way_costs_the_save_and_not_the_job(house: House) -> None:
    job_id = house.new_job("crash late", steps=4)
    storage = FullStorage(house.settings.blobs_dir)
    storage.full = "step.json"
    claim(house, job_id, storage=storage).run()
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"
    assert house.notes(job_id) == ["starting at step 0", "starting at step 0"]


class DistantStorage(LocalStorage):
    """Away every other time that it is asked."""

    away = False

    def put(self, source: Path) -> tuple[str, int]:
        self._ask()
        return super().put(source)

    def open(self, sha256: str) -> BinaryIO:
        self._ask()
        return super().open(sha256)

    def _ask(self) -> None:
        self.away = not self.away
        if self.away:
            raise StorageAwayError("the storage cannot be reached")


def test_a_storage_that_is_away_is_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "AWAY_S", 0.1)
    job_id, storage = house.new_job("crash late", steps=4), DistantStorage(house.settings.blobs_dir)
    for _ in range(2):
        claim(house, job_id, storage=storage).run()
    assert (house.job(job_id).status, house.job(job_id).attempt) == ("succeeded", 2)
    started = [note for note in house.notes(job_id) if note.startswith("starting")]
    assert int(started[-1].rpartition(" ")[2]) >= 1  # what was saved came back


@pytest.mark.field("2. Models in, checkpoints out", "a hub that is away", "the slot is given back, `waiting` says why")
def test_a_hub_that_is_away_keeps_no_worker(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job goes back into the queue, which says why, until the hub is back."""
    away = True

    def resolve(name: str, settings: Settings) -> models.Resolved:
        if away:
            raise StorageAwayError("the hub answers 503")
        return models.Resolved(settings.models_dir / "tiny", "owner/name", "c1")

    monkeypatch.setattr(models, "resolve", resolve)
    job_id = house.new_job(model="owner/name")
    assert claim(house, job_id).run()  # the worker is well
    assert (house.job(job_id).status, house.job(job_id).progress["waiting"]) == ("queued", "the hub answers 503")
    with house.database.begin() as session:
        assert claims.claim_next(session, "other", 60) is None
    away = False
    claim(house, job_id).run()
    assert house.job(job_id).status == "succeeded"


def test_a_hub_that_stays_away_is_not_waited_for_for_ever(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(name: str, settings: Settings) -> models.Resolved:
        raise StorageAwayError("the hub cannot be reached (ConnectError)")

    monkeypatch.setattr(models, "resolve", resolve)
    monkeypatch.setattr(supervise, "HUB_S", 0.0)
    job_id = house.new_job(model="owner/name")
    claim(house, job_id).run()
    error = house.job(job_id).error
    assert error is not None and error["code"] == "hub_away"
    assert "cannot be reached (ConnectError); retry the job later" in error["message"]


def test_a_time_limit_met_while_inputs_are_fetched_says_what_was_away(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(LocalStorage):
        def open(self, sha256: str) -> BinaryIO:
            if supervisor._away:  # the limit comes once it is known what is waited for
                supervisor._deadline = 0.0
            raise StorageAwayError("the storage answers 503")

    monkeypatch.setattr(supervise, "AWAY_S", 0.1)
    job_id = house.new_job(limits={"max_runtime_s": 10})
    supervisor = claim(house, job_id, storage=Away(house.settings.blobs_dir))
    supervisor._deadline += 600
    supervisor.run()
    error = house.job(job_id).error
    assert error is not None and error["code"] == "time_limit"
    assert "inputs were still being fetched (the storage answers 503); retry it later" in error["message"]
    assert not house.starts(job_id)


def test_files_that_stay_are_not_put_again(house: House, tmp_path: Path) -> None:
    storage = SlowStorage(house.settings.blobs_dir)
    supervisor = claim(house, house.new_job(), storage=storage)
    (tmp_path / "save").mkdir()
    (tmp_path / "save" / "weights").write_bytes(b"weights")
    for _ in range(2):
        supervisor._save(tmp_path / "save")
    assert storage.puts == 1


class StubbornStorage(LocalStorage):
    """A disk that does not let go of what it has."""

    refused = 0

    def delete(self, sha256: str) -> None:
        self.refused += 1
        raise OSError(30, "Read-only file system")


def test_a_saved_state_that_cannot_be_removed_costs_no_attempt(house: House) -> None:
    job_id, storage = house.new_job(steps=4), StubbornStorage(house.settings.blobs_dir)
    claim(house, job_id, storage=storage).run()
    assert storage.refused and house.job(job_id).status == "succeeded"


def test_a_cancel_while_the_files_are_stored_leaves_none(house: House) -> None:
    job_id, storage = house.new_job(), HeldOutputs(house.settings.blobs_dir)
    with running(claim(house, job_id, storage=storage)):
        house.wait(storage.asked.is_set)
        house.cancel(job_id)
        house.wait(lambda: house.job(job_id).status == "cancelled")
    storage.let_go.set()
    with house.database.read() as session:
        assert not queries.files(session, job_id)  # what it could be retried from stays


class HeldOutputs(LocalStorage):
    """Takes the weights when it is let."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked, self.let_go = threading.Event(), threading.Event()

    def put(self, source: Path) -> tuple[str, int]:
        if source.name == "model.safetensors":
            self.asked.set()
            self.let_go.wait(120)
        return super().put(source)
