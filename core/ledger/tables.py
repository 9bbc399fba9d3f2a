"""The tables. Times are whole milliseconds since the epoch (UTC): the same on every database."""

from __future__ import annotations

import time
from typing import Any

import uuid_utils
from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, MetaData, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

Json = JSON().with_variant(JSONB(), "postgresql")
Serial = BigInteger().with_variant(Integer(), "sqlite")

DEFAULT_TENANT = "tenant_default"


def now_ms() -> int:
    """The time, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def clock_ms(session: Session) -> int:
    """The database's clock, which all hosts that share it go by: leases and what is due are times of this clock."""
    if session.get_bind().dialect.name == "sqlite":  # a file of this host
        return now_ms()
    return int(session.execute(text("SELECT extract(epoch FROM clock_timestamp()) * 1000")).scalar_one())


def new_id(prefix: str) -> str:
    """A prefixed UUIDv7 (RFC 9562): ids sort by the time they were made."""
    return f"{prefix}_{uuid_utils.uuid7().hex}"


class Base(DeclarativeBase):
    """Common naming, so that migrations can address constraints."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: Json, list[Any]: Json, int: BigInteger}  # noqa: RUF012


class Tenant(Base):
    """Who owns jobs and data sets; `served_at`: when a worker last took a job of theirs, by the database's clock."""

    __tablename__ = "tenants"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[int] = mapped_column(default=now_ms)
    served_at: Mapped[int | None]


class Key(Base):
    """An API key, stored as the sha256 of its secret."""

    __tablename__ = "keys"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[Any]]
    max_queued: Mapped[int | None]
    max_running: Mapped[int | None]
    max_stored_bytes: Mapped[int | None]
    created_at: Mapped[int] = mapped_column(default=now_ms)
    expires_at: Mapped[int | None]
    revoked_at: Mapped[int | None]


class Login(Base):
    """Somebody who is logged in with a key in a browser, stored as the sha256 of what the cookie holds."""

    __tablename__ = "logins"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("keys.id", ondelete="CASCADE"))
    expires_at: Mapped[int]


class Dataset(Base):
    """An uploaded table, normalised to Parquet with plain columns; `sha256` addresses that file.

    `understood`: what was made out of the file, as `core.rows.files.understood` has it; none of what earlier versions
    read, whose columns are all of text.
    """

    __tablename__ = "datasets"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    format: Mapped[str] = mapped_column(String(16))
    upload_sha256: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size_bytes: Mapped[int]
    rows: Mapped[int]
    columns: Mapped[list[Any]]
    understood: Mapped[dict[str, Any] | None]
    key_id: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[int] = mapped_column(default=now_ms)


class Upload(Base):
    """A file that arrives in parts; `asked`: what its user says of it; `dataset_id`: what came of it."""

    __tablename__ = "uploads"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    size_bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    asked: Mapped[dict[str, Any] | None]
    dataset_id: Mapped[str | None] = mapped_column(String(64))
    key_id: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[int] = mapped_column(default=now_ms)


class Part(Base):
    """A part of an upload that has arrived, counted from 1."""

    __tablename__ = "parts"
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)


class Job(Base):
    """A job. This row is the truth; broker messages only say "look at it". `key_id` is the key that queued it.

    `attempt` is also the fencing token: a worker's writes carry the attempt that it claimed, and are refused once
    another attempt has begun. `lease_until` is, of a job that is queued, when it may be claimed.
    """

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    spec: Mapped[dict[str, Any]]
    priority: Mapped[int] = mapped_column(Integer, default=5, server_default="5")
    status: Mapped[str] = mapped_column(String(16))
    stage: Mapped[str | None] = mapped_column(String(16))
    stage_at: Mapped[int | None]
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)
    metrics: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    max_attempts: Mapped[int] = mapped_column(Integer)
    worker: Mapped[str | None] = mapped_column(String(200))
    webhook_secret: Mapped[str | None] = mapped_column(String(100))
    lease_until: Mapped[int | None]
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))
    key_id: Mapped[str | None] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(Integer, default=1)
    created_at: Mapped[int] = mapped_column(default=now_ms)
    announced_at: Mapped[int] = mapped_column(default=now_ms)
    started_at: Mapped[int | None]
    finished_at: Mapped[int | None]

    __table_args__ = (
        UniqueConstraint("tenant_id", "idempotency_key"),
        Index("ix_jobs_tenant_status_id", "tenant_id", "status", "id"),
        Index("ix_jobs_tenant_id_desc", "tenant_id", "id"),
        Index("ix_jobs_status_lease", "status", "lease_until"),
        Index("ix_jobs_status_announced", "status", "announced_at"),
        Index("ix_jobs_status_priority", "status", "priority", "id"),
    )


class Attempt(Base):
    """One start of a job, and how it ended."""

    __tablename__ = "attempts"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    worker: Mapped[str] = mapped_column(String(200))
    started_at: Mapped[int] = mapped_column(default=now_ms)
    finished_at: Mapped[int | None]
    outcome: Mapped[str | None] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)


class Event(Base):
    """What happened to a job; `seq` counts up over all jobs."""

    __tablename__ = "events"
    seq: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    type: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]]
    at: Mapped[int] = mapped_column(default=now_ms)

    __table_args__ = (Index("ix_events_job_seq", "job_id", "seq"), {"sqlite_autoincrement": True})


class Outbox(Base):
    """Jobs that a worker should look at; the relay publishes and deletes them."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[int] = mapped_column(default=now_ms)


class File(Base):
    """A file of a job: `output` is offered for download, `state` lets the next attempt resume."""

    __tablename__ = "files"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    path: Mapped[str] = mapped_column(String(255), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size_bytes: Mapped[int]
    created_at: Mapped[int] = mapped_column(default=now_ms)


class Delivery(Base):
    """A message to a job's webhook; its id is the `webhook-id`. Once it has arrived or is given up, none is due."""

    __tablename__ = "deliveries"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    body: Mapped[dict[str, Any]]
    tries: Mapped[int] = mapped_column(Integer, default=0)
    due_at: Mapped[int | None] = mapped_column(default=now_ms, index=True)
    tried_at: Mapped[int | None]
    status: Mapped[int | None] = mapped_column(Integer)


class Worker(Base):
    """A worker process, as it described itself."""

    __tablename__ = "workers"
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    slots: Mapped[int] = mapped_column(Integer)
    device: Mapped[dict[str, Any]]
    started_at: Mapped[int] = mapped_column(default=now_ms)
    seen_at: Mapped[int] = mapped_column(default=now_ms)


class MeasuredLatency(Base):
    """What models of certain sizes take under certain conditions, as a worker has measured it last; of no tenant."""

    __tablename__ = "latencies"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(String(64), index=True)
    latency: Mapped[dict[str, Any]]
    at: Mapped[int] = mapped_column(default=now_ms)


class Tally(Base):
    """Something to count that happened; see `tallies.py`."""

    __tablename__ = "tallies"
    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(32), index=True)
    label: Mapped[str] = mapped_column(String(32))
    count: Mapped[int]
    ms: Mapped[int]
