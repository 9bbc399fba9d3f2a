"""What to know of a job's rows before its numbers are believed: said when a job is planned, and in its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from core.spec.data import CONFLICTS, Splits, labels_of
from core.spec.labels import members, numbers, outlier
from core.spec.task import Task

FAR = 100  # in the unit of core.spec.data.MAX_REACH
MOST = 0.9  # of the rows are of one class
MANY = 0.65  # of the rows are of one class, and
LITTLE = 50  # training rows of the others
FEW = 10  # test rows of a class


def doubts(task: Task, splits: Splits) -> Iterator[str]:
    """One sentence each."""
    if count := splits.dropped[CONFLICTS]:
        yield f"{count} {CONFLICTS}: of each text the first row is used"
    if task.problem == "regression":
        values = numbers(labels_of([*splits.train, *splits.dev, *splits.test]))
        i, reach = outlier(values)
        if reach > FAR:
            yield (
                f"the number {values[i]:.9g} lies far from the others, and errors are squared; if it is right, "
                "logarithms may be learned better"
            )
    if task.metric == "accuracy":
        yield from _one_class(splits)
    if task.type == "text-classification" and task.problem != "regression":
        yield from _rare(task, splits)


def _one_class(splits: Splits) -> Iterator[str]:
    rows = [*splits.train, *splits.dev, *splits.test]
    (name, count), *_ = Counter(row.label for row in rows).most_common(1)
    share, others = count / len(rows), sum(row.label != name for row in splits.train)
    if share >= MOST:
        yield (
            f"{share:.0%} of the rows are '{name}', so that always saying it is as accurate: "
            "'balanced_accuracy' or 'f1' as the metric would tell more"
        )
    elif share >= MANY and others < LITTLE:
        yield (
            f"{share:.0%} of the rows are '{name}', and {others} training rows are not: a model that always says "
            f"'{name}' may be as accurate as one that learns from so few; 'balanced_accuracy' or 'f1' as the metric "
            "(task.metric), or more rows of the others, would mend that"
        )


def _rare(task: Task, splits: Splits) -> Iterator[str]:
    rows = Counter(chain.from_iterable(members(row.label) for row in splits.test))
    word, plural = ("label", "labels") if task.problem == "multi_label_classification" else ("class", "classes")
    little = "macro F1 says little" if word == "label" else "macro F1 and balanced accuracy say little"
    few = [name for name in splits.labels if 0 < rows[name] < FEW]
    none = [name for name in splits.labels if not rows[name]]
    if few[1:]:
        yield f"{len(few)} {plural} have fewer than {FEW} test rows ({_some(few)}): {little}"
    elif few:
        count = f"{rows[few[0]]} test row{'s' * (rows[few[0]] > 1)}"
        yield f"{word} '{few[0]}' has {count} (fewer than {FEW}): {little}"
    if none:
        yield f"{len(none)} {plural if none[1:] else word} without a test row ({_some(none)}): no metric speaks of them"


def _some(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:3]) + ", ..." * (len(names) > 3)
