"""What is asked of a row: a class, a number, tags, a vector, a rank. A task is a file here, and a line below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from core.rows.labels import Label
from core.spec.task import ProblemType
from core.tasks.classes import SingleLabel
from core.tasks.embedding import Embedding
from core.tasks.labels import MultiLabel
from core.tasks.number import Regression
from core.tasks.ranking import Ranking
from core.tasks.retrieval import Retrieval
from core.tasks.similarity import Similarity
from core.tasks.tags import Tags
from core.tasks.task import Task
from core.tasks.vectors import Vectors

__all__ = ["TASKS", "Task", "task_of"]

TASKS: Mapping[ProblemType, type[Task]] = {
    "single_label_classification": SingleLabel,
    "multi_label_classification": MultiLabel,
    "regression": Regression,
    "token_classification": Tags,
    "text_embedding": Embedding,
    "text_retrieval": Retrieval,
    "text_similarity": Similarity,
    "text_ranking": Ranking,
}


def task_of(
    kind: ProblemType, labels: Sequence[str], known: Sequence[Label] = (), texts: int = 1, shorter: Sequence[int] = ()
) -> Task:
    """Make the task of that kind, whose outputs stand for `labels`; `known`: labels of the training rows.

    `texts`: how many a row has, where a task encodes them apart; `shorter`: of vectors, see `Vectors`.
    """
    task = TASKS[kind].of(labels, known)
    return replace(task, texts=texts, shorter=tuple(shorter)) if isinstance(task, Vectors) else task
