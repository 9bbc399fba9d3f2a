"""Alembic's entry point: connect with the URL in force and run the revisions."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, pool

from core.ledger.settings import Settings
from core.ledger.tables import Base

url = context.config.get_main_option("sqlalchemy.url") or Settings().database
engine = create_engine(url, poolclass=pool.NullPool)

with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            # Two processes that start at once must not both create tables.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7077)")
        context.run_migrations()
engine.dispose()
