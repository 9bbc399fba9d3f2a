"""What to know of a job's rows before its numbers are believed: said when a job is planned, and in its report."""

from __future__ import annotations

from collections.abc import Iterator

from core.spec.data import Splits, labels_of
from core.spec.labels import numbers, outlier
from core.spec.task import Task

FAR = 100  # as core.spec.data.MAX_REACH


def doubts(task: Task, splits: Splits) -> Iterator[str]:
    """One sentence each."""
    if task.problem == "regression":
        values = numbers(labels_of([*splits.train, *splits.dev, *splits.test]))
        i, reach = outlier(values)
        if reach > FAR:
            yield (
                f"the number {values[i]:.9g} lies far from the others, and errors are squared: is it right? "
                "If it is, logarithms may be learned better"
            )
