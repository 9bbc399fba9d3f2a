"""Alembic's entry point: connect with the URL in force and run the revisions."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, pool

from core.ledger.database import prepare_sqlite
from core.ledger.settings import read_settings
from core.ledger.tables import Base

url = context.config.get_main_option("sqlalchemy.url") or read_settings().database
engine = create_engine(url, poolclass=pool.NullPool)
if engine.dialect.name == "sqlite":
    # BEGIN IMMEDIATE: two processes that start at once migrate one after the other. Foreign keys are off, or a table
    # that a batch operation rebuilds would take the rows that refer to it along.
    prepare_sqlite(engine, foreign_keys=False)

with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            # Two processes that start at once must not both create tables.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7077)")
        context.run_migrations()
engine.dispose()
