"""Models on the same test rows: by how much one is better, in every metric that rows can be counted for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from core.ledger.files.storage import Storage
from core.ledger.tables import File
from core.measures.classes import of_classes
from core.measures.intervals import Measure, lead_of_kinds
from core.measures.labels import of_labels
from core.measures.numbers import of_numbers
from core.measures.tags import of_tags
from core.rows.labels import no_entity_tag
from core.spec.report import Interval, TaskSaid

MAX_BYTES = 16 * 2**20  # of each file that is read
MAX_KINDS = 1000  # of rows: to draw these again and again takes a second, of numbers, and 75 MB

Kinds = Sequence[tuple[Any, Any, Any]]  # label, and what either model says
Measures = tuple[Measure, Measure]


class Unpaired(Exception):
    """Why two models cannot be compared row by row."""


def change(storage: Storage, task: TaskSaid, first: File, second: File) -> dict[str, Interval]:
    """Each metric of the second less that of the first, by the bootstrap of the reports; files `test.jsonl` of both.

    Raises Unpaired.
    """
    if task.problem not in MEASURES:
        raise Unpaired("answers of this task are vectors or ranks, whose metrics are not of single rows")
    if max(first.size_bytes, second.size_bytes) > MAX_BYTES:
        raise Unpaired("their test rows are too many to be read here")
    counted = Counter(_pairs(storage, first, second))
    if len(counted) > MAX_KINDS:
        raise Unpaired("their test rows are too many to be drawn again here")
    if not counted:
        raise Unpaired("they have no test rows")
    one, other = MEASURES[task.problem]([*counted], task)
    found = lead_of_kinds(other, one, np.array([*counted.values()], float))
    return {name: Interval(**value) for name, value in found.items()}


def _pairs(storage: Storage, first: File, second: File) -> Iterator[tuple[Hashable, Hashable, Hashable]]:
    for one, other in zip_longest(_rows(storage, first), _rows(storage, second)):
        if one is None or other is None or one[:2] != other[:2]:
            raise Unpaired("their test rows are not the same")
        yield _plain(one[1]), _plain(one[2]), _plain(other[2])


def _rows(storage: Storage, file: File) -> Iterator[tuple[Any, Any, Any]]:
    with storage.open(file.sha256) as lines:
        for line in lines:
            row = json.loads(line)
            yield row.get("text", row.get("image")), row.get("label"), row.get("predicted")


def _plain(value: Any) -> Hashable:
    return tuple(value) if isinstance(value, list) else value


def _classes(kinds: Kinds, _task: TaskSaid) -> Measures:
    number = {name: i for i, name in enumerate(sorted({name for kind in kinds for name in kind}, key=str))}
    truth, *said = (np.array([number[name] for name in column]) for column in zip(*kinds, strict=True))
    return _of_both(lambda answers: of_classes(answers, truth, len(number)), said)


def _labels(kinds: Kinds, _task: TaskSaid) -> Measures:
    names = sorted({name for kind in kinds for row in kind for name in row})
    columns = zip(*kinds, strict=True)
    truth, *said = (np.array([[name in row for name in names] for row in column]) for column in columns)
    return _of_both(lambda answers: of_labels(answers, truth), said)


def _numbers(kinds: Kinds, _task: TaskSaid) -> Measures:
    truth, *said = (np.array(column, float) for column in zip(*kinds, strict=True))
    return _of_both(lambda answers: of_numbers(answers, truth), said)


def _tags(kinds: Kinds, task: TaskSaid) -> Measures:
    """Of the words that the models have read: others have no tag."""
    if any((a is None) != (b is None) for _, one, other in kinds for a, b in zip(one, other, strict=True)):
        raise Unpaired("they have not read the same words of their test rows")
    truth, *said = (
        [[tag for tag, told in zip(kind[i], kind[1], strict=True) if told is not None] for kind in kinds]
        for i in range(3)
    )
    mark = not no_entity_tag(task.labels)
    return _of_both(lambda answers: of_tags(answers, truth, mark), said)


def _of_both(measure: Callable[[Any], Measure], said: Sequence[Any]) -> Measures:
    one, other = said
    return measure(one), measure(other)


MEASURES: dict[str, Callable[[Kinds, TaskSaid], Measures]] = {
    "single_label_classification": _classes,
    "multi_label_classification": _labels,
    "regression": _numbers,
    "token_classification": _tags,
}
