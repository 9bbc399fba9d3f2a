"""Settings, from the environment (`TOPWORK_...`). The defaults run on one machine with nothing installed."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL

S3_URL = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?$"


class Settings(BaseSettings):
    """Every process reads these once, at its start."""

    model_config = SettingsConfigDict(env_prefix="TOPWORK_", env_ignore_empty=True, extra="ignore", frozen=True)

    data_dir: Path = Field(Path("data"), description="database, files, models and work folders of the embedded default")
    database_url: str | None = Field(None, description="SQLAlchemy URL; default: SQLite in data_dir")
    broker_url: str | None = Field(None, description="redis:// URL; default: embedded Valkey in data_dir")
    storage_url: str | None = Field(
        None, pattern=S3_URL, description="s3://bucket/prefix (needs the extra s3); default: files in data_dir"
    )
    downloads: Literal["proxy", "redirect"] = Field(
        "proxy", description="redirect: clients fetch files from S3 itself, by URLs that are good for minutes"
    )
    log: str = Field(
        "info",
        pattern="^(debug|info|warning|error)(:(json|text))?$",
        description="level of the log, and its form: 'info:json', 'debug:text'; without: text on a terminal, else JSON",
    )
    require_keys: bool = Field(True, description="false: whoever reaches this machine's loopback needs no API key")
    lease_s: float = Field(15.0, gt=0, le=86_400, description="a worker silent for so long loses its job")
    heartbeat_s: float = Field(
        1.0, gt=0, le=3600, description="how often a worker extends its lease and looks for a cancel"
    )
    silence_s: float = Field(600.0, gt=0, le=86_400, description="a child that reports nothing for so long is killed")
    max_attempts: int = Field(3, ge=1, description="starts of a job before it fails")
    worker_slots: int | None = Field(None, ge=1, description="jobs that one worker runs at once; default: one a GPU")
    max_queued: int = Field(1000, ge=1, description="jobs of one tenant that wait; more are refused")
    max_running: int | None = Field(None, ge=1, description="jobs of one tenant that run at once; more wait")
    max_stored_bytes: int | None = Field(None, ge=1, description="data sets and files of one tenant")
    webhook_allow_private: bool = Field(False, description="webhooks may be plain http, and in your own network")
    max_model_bytes: int = Field(20 * 2**30, ge=1, description="a model that is fetched from a hub")
    max_upload_bytes: int = Field(256 * 2**20, ge=1)
    max_rows: int = Field(1_000_000, ge=1)
    max_columns: int = Field(256, ge=1)
    max_cell_chars: int = Field(100_000, ge=1)
    max_readers: int = Field(
        max(2, os.cpu_count() or 1),
        ge=1,
        description="processes that read data sets for the API at once, half of them for one tenant at most; more wait",
    )
    reader_memory_bytes: int = Field(
        2 * 2**30, ge=64 * 2**20, description="memory of one of them: what needs more is refused"
    )
    reader_cpu_s: int = Field(120, ge=1, le=86_400, description="CPU seconds of one of them for one data set or job")

    @model_validator(mode="after")
    def _beats_within_the_lease(self) -> Self:
        if self.heartbeat_s > self.lease_s / 2:
            raise ValueError(
                "TOPWORK_HEARTBEAT_S: give at most half of TOPWORK_LEASE_S, or living workers lose their jobs"
            )
        return self

    @cached_property
    def database(self) -> str:
        """The database URL in force."""
        file = URL.create("sqlite", database=str(self.data_dir.resolve() / "topwork.db"))
        return self.database_url or file.render_as_string()

    @property
    def models_dir(self) -> Path:
        """Local models: one folder each, named as in GET /v1/models."""
        return self.data_dir / "models"

    @property
    def work_dir(self) -> Path:
        """Scratch folders of running jobs."""
        return self.data_dir / "work"

    @property
    def scratch_dir(self) -> Path:
        """Files that a request works on, for as long as it lasts."""
        return self.data_dir / "tmp"

    @property
    def cache_dir(self) -> Path:
        """What jobs of this machine may share: tables of latencies."""
        return self.data_dir / "cache"

    @property
    def blobs_dir(self) -> Path:
        """Files by sha256."""
        return self.data_dir / "blobs"

    @property
    def broker(self) -> str:
        """The broker URL in force: kombu wants the socket's path after `redis+socket://`."""
        return self.broker_url or f"redis+socket://{self.broker_socket}"

    @property
    def broker_socket(self) -> Path:
        """Unix socket of the embedded Valkey."""
        return self.data_dir.resolve() / "valkey.sock"


def read_settings(**given: Any) -> Settings:
    """What this process runs by. A wrong setting ends it, with a line that names the variable."""
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SystemExit("\n".join(_line(fault["loc"], fault["msg"]) for fault in error.errors())) from None


def _line(where: tuple[int | str, ...], message: str) -> str:
    if not where:
        return message.removeprefix("Value error, ")
    name = str(where[0])
    return f"TOPWORK_{name.upper()}: {message} ({Settings.model_fields[name].description or name})"
