"""Alembic migrations of the ledger; they run on SQLite and PostgreSQL."""
