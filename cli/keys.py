"""`topwork keys create`, `topwork migrate`: what is done on the machine that has the database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.ledger import keys
from core.ledger.database import Database, open_database
from core.ledger.settings import read_settings
from core.ledger.tables import now_ms


def create(data_dir: Path | None, tenant: str, name: str, scopes: Sequence[str], days: int | None) -> str:
    """The secret of a new key; makes database and tenant where there are none yet."""
    database = migrated(data_dir)
    try:
        expires_at = None if days is None else now_ms() + days * 24 * 3600 * 1000
        with database.begin() as session:
            return keys.create(session, keys.tenant(session, tenant), name, scopes, expires_at)[1]
    finally:
        database.close()


def migrated(data_dir: Path | None) -> Database:
    """The database of the settings, or of `data_dir`, with the newest schema."""
    database = open_database(read_settings() if data_dir is None else read_settings(data_dir=data_dir))
    try:
        database.migrate()
    except BaseException:
        database.close()
        raise
    return database
