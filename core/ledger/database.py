"""Engines, sessions and migrations, alike on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, Executable, Row, create_engine, event
from sqlalchemy.orm import Session, sessionmaker

import migrations
from core.ledger.settings import Settings

READ_ONLY_NOW = "25006"  # SQLSTATE of a PostgreSQL that takes no writes for the moment: a failover
READ_ONLY: dict[str, Any] = {"sqlite_begin": "DEFERRED", "postgresql_readonly": True}


class Database:
    """One engine; `begin()` gives a session in a transaction that commits at the end or rolls back."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        sqlite = url.startswith("sqlite")
        # SQLite's transactions see one moment anyway; PostgreSQL's statements would each see their own.
        moment: dict[str, Any] = READ_ONLY if sqlite else READ_ONLY | {"isolation_level": "REPEATABLE READ"}
        self._readers = sessionmaker(self.engine.execution_options(**moment), expire_on_commit=False)
        alone: dict[str, Any] = READ_ONLY if sqlite else {"isolation_level": "AUTOCOMMIT"}
        self._plain = self.engine.execution_options(**alone)

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """A session in one transaction. On SQLite it takes the write lock at once, so it cannot fail half-way."""
        with self._sessions.begin() as session:
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that only reads, all of it as of one moment; it waits for no writer, and no writer waits for it."""
        with self._readers.begin() as session:
            yield session

    def rows(self, query: Executable, **values: Any) -> Sequence[Row[Any]]:
        """The rows of a query on tables that was built once: what every request asks.

        No session, no entity to fill, and on PostgreSQL no transaction around: a third of what `read` takes.
        """
        with self._plain.connect() as connection:
            return connection.execute(query, values).all()

    def migrate(self) -> None:
        """Bring the schema to the newest revision. Raises RuntimeError for one that this version does not know.

        So does a database whose texts are of no encoding: its driver would give bytes for them.
        """
        if self.engine.dialect.name == "postgresql":
            with self.engine.connect() as connection:
                encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
                if encoding == "SQL_ASCII":
                    raise RuntimeError("its encoding is SQL_ASCII: create the database with ENCODING 'UTF8'")
        try:
            command.upgrade(_alembic(self.url), "head")
        except CommandError as error:
            raise RuntimeError(self.schema_fault() or str(error)) from error

    def schema_fault(self) -> str | None:
        """Why this version does not work on the database as it is, and what mends that; None if it does."""
        scripts = ScriptDirectory.from_config(_alembic(self.url))
        with self.engine.execution_options(**READ_ONLY).connect() as connection:
            found = set(MigrationContext.configure(connection).get_current_heads())
        if found == set(scripts.get_heads()):
            return None
        if found <= {script.revision for script in scripts.walk_revisions()}:
            has = f"is at schema {', '.join(sorted(found))}" if found else "has no tables"
            return f"the database {has}, older than this version of Topwork: run `topwork migrate`"
        return (
            f"the database is at schema {', '.join(sorted(found))}, which this version of Topwork does not know: it is "
            "of a newer one. Upgrade this process, too, or restore the backup from before the upgrade"
        )

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_database(settings: Settings) -> Database:
    """The database that the settings name; makes the data folder of the embedded default."""
    if settings.database_url is None:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite would make it as the umask says; the files that it puts beside it are as this one is.
        with suppress(FileExistsError):
            os.close(os.open(settings.data_dir / "topwork.db", os.O_CREAT | os.O_EXCL, 0o600))
    return Database(settings.database)


def _alembic(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        # A host that vanished is noticed in seconds, not in the minutes that TCP would take.
        patience = {"connect_timeout": 10, "tcp_user_timeout": 15_000, "client_encoding": "UTF8"}
        engine = create_engine(url, pool_pre_ping=True, connect_args=patience, hide_parameters=True)
        event.listen(engine, "connect", _bound_idling)
        return engine
    engine = create_engine(
        url,
        connect_args={"timeout": 30, "check_same_thread": False},
        hide_parameters=True,
        json_serializer=partial(json.dumps, ensure_ascii=False),  # its texts are looked through
    )
    prepare_sqlite(engine, foreign_keys=True)
    return engine


def _bound_idling(connection: Any, _record: Any) -> None:
    """A process that is frozen in a transaction keeps its locks: let the server end it, as a lease would."""
    connection.execute("SET idle_in_transaction_session_timeout = '15s'")
    connection.commit()


def _lower(value: Any) -> Any:
    """SQLite's own knows ASCII alone."""
    return value.lower() if isinstance(value, str) else value


def prepare_sqlite(engine: Engine, foreign_keys: bool) -> None:
    """Make SQLite fit for several processes: WAL, and the write lock taken when a transaction begins.

    A transaction that reads first and writes later could otherwise fail at once with "database is locked".
    """

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        # The driver's own transaction handling would issue a deferred BEGIN; `_begin` issues ours.
        connection.isolation_level = None
        connection.create_function("lower", 1, _lower, deterministic=True)
        cursor = connection.cursor()
        # synchronous=FULL: an accepted job survives a power cut too.
        for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", f"foreign_keys={foreign_keys:d}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        mode = connection.get_execution_options().get("sqlite_begin", "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {mode}")
