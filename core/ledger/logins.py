"""Logins in a browser: a key is given once, and a cookie stands for it until it expires or the key is revoked.

What the cookie holds is random and kept as its sha256, as keys are: neither the key nor a login can be read back.
"""

from __future__ import annotations

import secrets
from collections.abc import Set
from typing import Any

from sqlalchemy import Row, bindparam, delete, select
from sqlalchemy.orm import Session

from core.ledger.database import Database
from core.ledger.keys import GOOD, digest
from core.ledger.tables import Key, Login, now_ms

HOURS = 12  # that one lasts, at most


def create(session: Session, key_id: str) -> str:
    """A new login of the key; returns what its cookie holds. Those that have expired are forgotten."""
    session.execute(delete(Login).where(Login.expires_at <= now_ms()))
    token = secrets.token_urlsafe(32)
    session.add(Login(sha256=digest(token), key_id=key_id, expires_at=now_ms() + HOURS * 3_600_000))
    return token


def end(session: Session, token: str) -> None:
    """Forget a login, if there is such a one."""
    session.execute(delete(Login).where(Login.sha256 == digest(token)))


def find(database: Database, tokens: Set[str]) -> dict[str, Row[Any]]:
    """Token -> `id`, `tenant_id` and `scopes` of its key, of those that are good now, as their keys are."""
    digests = {digest(token): token for token in tokens}
    return {digests[row.sha256]: row for row in database.rows(_FIND, sha256=list(digests), now=now_ms())}


_logins, _keys = Login.__table__.c, Key.__table__.c
_FIND = (
    select(_logins.sha256, _keys.id, _keys.tenant_id, _keys.scopes)
    .join_from(Login.__table__, Key.__table__, _logins.key_id == _keys.id)
    .where(
        _logins.sha256.in_(bindparam("sha256", expanding=True)),
        _logins.expires_at > bindparam("now"),
        GOOD,
    )
)
