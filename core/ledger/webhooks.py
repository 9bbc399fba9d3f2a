"""Messages to a job's webhook: written in the transaction that ends the job, kept as long as the job is.

A message is due until it has arrived or is given up; how its tries went is part of what a job's owner sees.
"""

from __future__ import annotations

import base64
import ipaddress
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session

from core.ledger import tallies
from core.ledger.tables import Delivery, Job, clock_ms

SECRET_PREFIX = "whsec_"
HOLD_S = 120.0  # who takes a message has so long to send it
RETRY_AFTER_S = (5, 60, 300, 1800, 7200, 18_000, 36_000)  # after each try that failed; about 17 hours in all


@dataclass(frozen=True)
class Letter:
    """A message to send."""

    id: str
    tenant_id: str
    url: str
    secret: str
    body: Mapping[str, Any]


def new_secret() -> str:
    """What a job's messages are signed with, in the form of Standard Webhooks."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def any_due(session: Session) -> bool:
    """Whether there is anything to take."""
    return bool(session.scalar(select(exists().where(Delivery.due_at <= clock_ms(session)))))


def take(session: Session, limit: int, but_of: Sequence[str] = ()) -> list[Letter]:
    """Messages that are due; nobody else gets them for a while.

    One a tenant, and none of the tenants `but_of`: whose receivers are slow keeps no other tenant waiting.
    """
    now = clock_ms(session)
    due = Delivery.due_at <= now
    first = select(func.min(Delivery.id)).join(Job).where(due, Job.tenant_id.not_in(but_of)).group_by(Job.tenant_id)
    query = select(Delivery).where(due, Delivery.id.in_(first)).order_by(Delivery.due_at).limit(limit)
    letters = []
    for row in session.scalars(query.with_for_update(skip_locked=True)).all():
        row.due_at = now + int(HOLD_S * 1000)
        job = session.get_one(Job, row.job_id)
        assert job.webhook_secret is not None
        letters.append(Letter(row.id, job.tenant_id, job.spec["webhook"]["url"], job.webhook_secret, row.body))
    return letters


def delivered(session: Session, letter_id: str, status: int) -> None:
    """It arrived; its receiver answered `status`."""
    if (row := _tried(session, letter_id, status)) is not None:
        row.due_at = None
        tallies.add(session, "webhook", "delivered")


def failed(session: Session, letter_id: str, status: int | None = None, *, for_good: bool = False) -> bool:
    """It did not (`status`: what was answered, if anything was): try again later, or give up, after the last try or
    `for_good`. Returns whether it gave up.
    """
    row = _tried(session, letter_id, status)
    if row is None:
        return False
    if for_good or row.tries > len(RETRY_AFTER_S):
        row.due_at = None
        tallies.add(session, "webhook", "given_up")
        return True
    row.due_at = (row.tried_at or 0) + RETRY_AFTER_S[row.tries - 1] * 1000
    return False


def latest(session: Session, job_ids: Iterable[str]) -> dict[str, Delivery]:
    """The last message about each of these jobs that there is one about."""
    newest = select(func.max(Delivery.id)).where(Delivery.job_id.in_(job_ids)).group_by(Delivery.job_id)
    return {row.job_id: row for row in session.scalars(select(Delivery).where(Delivery.id.in_(newest)))}


def _tried(session: Session, letter_id: str, status: int | None) -> Delivery | None:
    """The message, locked, with one try more; None if its job was deleted, or another relay was done with it."""
    # The job first, as whoever deletes it has it: and who waits for a change of the job sees this one.
    about = select(Delivery.job_id).where(Delivery.id == letter_id).scalar_subquery()
    session.execute(update(Job).where(Job.id == about).values(version=Job.version + 1))
    row = session.get(Delivery, letter_id, with_for_update=True)
    if row is None or row.due_at is None:
        return None
    row.tries, row.tried_at, row.status = row.tries + 1, clock_ms(session), status
    return row


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, and not a way around to one that is not."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip.is_site_local or ip.sixtofour or ip.teredo or ip in ipaddress.ip_network("64:ff9b::/96"):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved
