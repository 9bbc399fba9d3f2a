"""What is asked of a row: a class, several labels, a number, a tag a word. A task is a file here, and a line below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.rows.labels import Label
from core.spec.task import ProblemType
from core.tasks.classes import SingleLabel
from core.tasks.labels import MultiLabel
from core.tasks.number import Regression
from core.tasks.tags import Tags
from core.tasks.task import Task

__all__ = ["TASKS", "Task", "task_of"]

TASKS: Mapping[ProblemType, type[Task]] = {
    "single_label_classification": SingleLabel,
    "multi_label_classification": MultiLabel,
    "regression": Regression,
    "token_classification": Tags,
}


def task_of(kind: ProblemType, labels: Sequence[str], known: Sequence[Label] = ()) -> Task:
    """Make the task of that kind, whose outputs stand for `labels`; `known`: labels of the training rows."""
    return TASKS[kind].of(labels, known)
