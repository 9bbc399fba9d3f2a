"""The one error type for a request that cannot be carried out."""

from __future__ import annotations


class SpecError(ValueError):
    """A request that cannot be carried out as asked.

    `field` is a JSON pointer (RFC 6901) into the job specification; `message` says what was wrong, what was
    expected and how to mend it. The web edge answers it with 422; a worker fails the job with it.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message
