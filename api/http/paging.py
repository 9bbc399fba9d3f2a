"""Opaque cursors: a page begins after the last id of the page before, so that new rows move nothing."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Annotated, Protocol, TypeVar

from fastapi import Query

from api.http.problems import invalid
from api.schemas import Fault

Limit = Annotated[int, Query(ge=1, le=100, description="items a page")]
After = Annotated[str | None, Query(max_length=200, description="`next` of the page before")]


class HasId(Protocol):
    """A row with a sortable id."""

    @property
    def id(self) -> str:
        """The id."""


Row = TypeVar("Row", bound=HasId)


def position(cursor: str | None, prefix: str) -> str | None:
    """The id that a cursor stands for; raises a 422 Problem if it is not one of ours."""
    if cursor is None:
        return None
    try:
        found = base64.urlsafe_b64decode(cursor.encode("ascii") + b"==").decode("ascii")
    except ValueError:
        found = ""
    if not re.fullmatch(prefix + "_[0-9a-f]{32}", found):
        raise invalid([Fault(parameter="cursor", detail="is not a cursor; give `next` of an earlier page as it was")])
    return found


def cut(rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], str | None]:
    """A page of `limit` rows out of `limit + 1` that were read, and the cursor of the next page if there is one."""
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], base64.urlsafe_b64encode(rows[limit - 1].id.encode()).decode().rstrip("=")
