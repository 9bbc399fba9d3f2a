"""A plan, as lines: its sentences are the server's, as on its page."""

from __future__ import annotations

from collections.abc import Iterator

from topwork.models import Plan
from topwork.title import title


def lines(plan: Plan) -> Iterator[str]:
    """What to mind, which job it is, what it would do, and what was understood."""
    yield from (f"Mind: {told}." for told in plan.warnings)
    yield f"{title(plan.spec)}."
    yield from plan.says
    yield from plan.notes
