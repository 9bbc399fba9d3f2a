"""In place of the fresh process that opens a job's files: that they load the product's tests show."""

from __future__ import annotations

from typing import Any

from core.spec.report import Seen, Verified


def nothing_seen(*_given: Any) -> Seen:
    """Stands for `core.pruning.job.publish.verify`."""
    return Seen(verified=Verified(rows=0, changed_predictions=0, parameters=0))
