"""What goes wrong, and how it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from topwork.models import Job


class TopworkError(Exception):
    """Base of all; `str()` says what is wrong and how to mend it."""


class ApiError(TopworkError):
    """The server refused. `str()` is one line a fault: "field: what is wrong"."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ServerAway(ApiError):
    """The server does not answer, or says that a part of it is away."""


class JobFailed(TopworkError):
    """A job that was waited for has failed, or was cancelled: `job` is how it ended."""

    def __init__(self, message: str, job: Job) -> None:
        super().__init__(message)
        self.job = job
