"""Schema and transactions, on both databases."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select, text

from core.ledger.database import Database, _alembic, open_database
from core.ledger.jobs import attempts, claims
from core.ledger.settings import Settings
from core.ledger.tables import Base, Job
from tests.conftest import administer, with_database
from tests.ledger.helpers import claimed_job, get, new_job
from worker.tidy import BLOBS


def test_migrations_give_exactly_the_tables_of_the_models(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    assert "run `topwork migrate`" in str(database.schema_fault())
    database.migrate()
    assert database.schema_fault() is None
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    database.close()


def test_stored_files_are_found_by_an_index(database: Database) -> None:
    for column in BLOBS:
        indexes = inspect(database.engine).get_indexes(column.class_.__tablename__)
        assert [column.key] in [one["column_names"] for one in indexes], column


def test_a_database_of_a_newer_version_is_told_from_an_older_one(database: Database) -> None:
    with database.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    assert "is at schema 0001, older" in str(database.schema_fault())
    with database.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'of_2030'"))
    with pytest.raises(RuntimeError, match="at schema of_2030, which this version of Topwork does not know"):
        database.migrate()


def test_a_database_of_no_encoding_is_refused_with_the_mend(postgresql: str) -> None:
    """As one that was made without a locale has: its driver gives bytes for texts."""
    administer(postgresql, "CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    database = Database(with_database(postgresql, "ascii"))
    with pytest.raises(RuntimeError, match="create the database with ENCODING 'UTF8'"):
        database.migrate()
    database.close()
    administer(postgresql, "DROP DATABASE ascii WITH (FORCE)")


def test_migrations_can_be_taken_back(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    database.migrate()
    new_job(database)
    command.downgrade(_alembic(empty_database_url), "base")
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    database.migrate()
    assert database.schema_fault() is None
    database.close()


def test_processes_that_start_at_once_migrate_once(empty_database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_migrate, args=(empty_database_url,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    database = Database(empty_database_url)
    new_job(database)
    database.close()


def _migrate(url: str) -> None:
    Database(url).migrate()


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.begin() as session:
        session.execute(text("DELETE FROM tenants"))
        raise RuntimeError
    new_job(database)


def test_a_reader_waits_for_no_writer_and_sees_what_was_committed(database: Database) -> None:
    job_id = claimed_job(database)
    with database.begin() as writer:
        attempts.report(writer, job_id, 1, {"event": "stage", "stage": "teach"})
        assert get(database, job_id).stage is None
    assert get(database, job_id).stage == "teach"


def test_a_read_session_sees_one_moment(database: Database) -> None:
    job_id = claimed_job(database)
    stage = select(Job.stage).where(Job.id == job_id)
    with database.read() as reader:
        assert reader.scalar(stage) is None
        with database.begin() as writer:
            attempts.report(writer, job_id, 1, {"event": "stage", "stage": "teach"})
        assert reader.scalar(stage) is None
    assert get(database, job_id).stage == "teach"


def test_a_read_session_cannot_write_on_postgresql(database: Database) -> None:
    job_id = new_job(database)
    if database.engine.dialect.name == "postgresql":
        with pytest.raises(Exception, match="read-only"), database.read() as session:
            session.execute(text("DELETE FROM outbox"))
    assert get(database, job_id).status == "queued"


def test_a_process_frozen_in_a_transaction_does_not_keep_its_locks_for_ever(database: Database) -> None:
    if database.engine.dialect.name == "postgresql":
        with database.read() as session:
            assert session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "15s"


def test_reading_before_writing_never_fails_under_contention(database: Database) -> None:
    job_id = claimed_job(database)

    def bump(_: int) -> None:
        for _ in range(10):
            with database.begin() as session:
                job = session.scalar(select(Job).where(Job.id == job_id).with_for_update())
                assert job is not None
                job.version += 1

    before = get(database, job_id).version
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(bump, range(6)))
    assert get(database, job_id).version == before + 60


def test_four_processes_write_to_one_database(database: Database, database_url: str) -> None:
    ids = [new_job(database) for _ in range(10)]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work_through, args=(database_url, ids)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == [0] * 4
    for job_id in ids:
        job = get(database, job_id)
        assert (job.status, job.attempt) == ("succeeded", 1)


def _work_through(url: str, ids: list[str]) -> None:
    database = Database(url)
    for job_id in ids:
        with database.begin() as session:
            claimed = claims.claim(session, job_id, "worker", 60)
        if claimed is not None:
            for step in range(10):
                with database.begin() as session:
                    attempts.report(session, job_id, 1, {"event": "progress", "overall": step / 10})
            with database.begin() as session:
                attempts.succeed(session, job_id, 1, {}, {})
    database.close()


def test_the_embedded_default_makes_its_folder(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "new" / "data", database_url=None)
    database = open_database(settings)
    database.migrate()
    assert (tmp_path / "new" / "data" / "topwork.db").exists()
    database.close()


def test_connections_are_shared_by_threads(database: Database) -> None:
    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(new_job(database))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(set(results)) == 10
