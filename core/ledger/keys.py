"""API keys: 256 random bits that are shown once, and kept as their sha256.

A slow hash protects what people can guess; of a secret like this, nobody can try a noticeable share. A fast one lets
each request look its key up by an index.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence, Set
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Row, and_, bindparam, or_, select
from sqlalchemy.orm import Session

from core.ledger.database import Database
from core.ledger.tables import Key, Tenant, new_id, now_ms

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "topwork_"  # so that scanners for leaked secrets, and people, know it when they see it


def create(
    session: Session,
    tenant_id: str,
    name: str,
    scopes: Iterable[str],
    expires_at: int | None = None,
    **quotas: int | None,
) -> tuple[Key, str]:
    """A new key and its secret, which cannot be had again. `quotas`: the columns `max_...` of `Key`."""
    secret = PREFIX + secrets.token_urlsafe(32)
    key = Key(
        id=new_id("key"),
        tenant_id=tenant_id,
        name=name,
        sha256=digest(secret),
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
        **quotas,
    )
    session.add(key)
    session.flush()
    return key, secret


def find(database: Database, secrets: Set[str]) -> dict[str, Row[Any]]:
    """Secret -> `id`, `tenant_id` and `scopes` of its key, of those that are good now."""
    digests = {digest(secret): secret for secret in secrets}
    return {digests[row.sha256]: row for row in database.rows(_FIND, sha256=list(digests), now=now_ms())}


def admins(session: Session) -> bool:
    """Whether there is any good key that can make others."""
    return any("admin" in key.scopes for key in session.scalars(select(Key).where(GOOD), {"now": now_ms()}))


def page(session: Session, tenant_id: str, limit: int, before: str | None = None) -> Sequence[Key]:
    """Newest first, revoked ones included, `limit` at most, those before the id `before`."""
    query = select(Key).where(Key.tenant_id == tenant_id)
    if before is not None:
        query = query.where(Key.id < before)
    return session.scalars(query.order_by(Key.id.desc()).limit(limit)).all()


def revoke(session: Session, tenant_id: str, key_id: str) -> Key | None:
    """From the next request on, the key is worth nothing. None if the tenant has no such key."""
    key = session.scalar(select(Key).where(Key.tenant_id == tenant_id, Key.id == key_id))
    if key is not None and key.revoked_at is None:
        key.revoked_at = now_ms()
    return key


def tenant(session: Session, name: str) -> str:
    """Id of the tenant of that name, which is made if there is none."""
    tenant_id = f"tenant_{name}"
    if session.get(Tenant, tenant_id) is None:
        session.add(Tenant(id=tenant_id, name=name))
        session.flush()
    return tenant_id


_columns = Key.__table__.c
GOOD: ColumnElement[bool] = and_(
    _columns.revoked_at.is_(None), or_(_columns.expires_at.is_(None), _columns.expires_at > bindparam("now"))
)
_FIND = select(_columns.sha256, _columns.id, _columns.tenant_id, _columns.scopes).where(
    _columns.sha256.in_(bindparam("sha256", expanding=True)), GOOD
)


def digest(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
