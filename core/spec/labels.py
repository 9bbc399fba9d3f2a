"""What the cells of a table say, for each problem: labels, words; and what a split holds in proportion."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import chain
from statistics import pstdev

from core.spec.task import ProblemType

Label = str | float | tuple[str, ...]  # a class; a number; the labels that apply, or the tag of each word

MAX_NUMBER = 1e30  # the head's weights are scaled by it, in float32
STRATA = 10  # of a regression's labels, by rank


def read_label(cell: str, problem: ProblemType) -> Label:
    """The label in a cell that is not empty; raises ValueError that says what is wrong and how to mend it.

    Of several labels a JSON array, or names with | between them; of tags a JSON array.
    """
    if problem == "regression":
        return _number(cell)
    if problem == "token_classification":
        return _array(cell, "tags", '["B-PER", "O"]')
    if problem == "multi_label_classification":
        names = _array(cell, "labels", '["a", "b"]') if cell.startswith("[") else cell.split("|")
        if not all(name.strip() for name in names):
            raise ValueError("names an empty label; write a|b, or a JSON array of names ([] for none)")
        return tuple(sorted({name.strip() for name in names}))
    return cell


def read_words(cell: str) -> tuple[str, ...]:
    """The words of a text, a JSON array; raises ValueError that says what is wrong and how to mend it."""
    return _array(cell, "words", '["Ann", "sings"]')


def _array(cell: str, what: str, example: str) -> tuple[str, ...]:
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(item, str) and item.strip() for item in found):
        raise ValueError(f"{cell[:60]!r} is not a JSON array of {what}; give one such as {example}")
    if any(ord(character) == 0 or 0xD800 <= ord(character) < 0xE000 for item in found for character in item):
        raise ValueError(f"its {what} hold a NUL or half of a surrogate pair; leave them out")
    return tuple(found)


def _number(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{cell[:60]!r} is not a finite number; give one such as 3.5")
    if abs(value) > MAX_NUMBER:
        raise ValueError(f"{value:g} is beyond {MAX_NUMBER:g}; give it in a larger unit")
    return value


def label_names(labels: Iterable[Label], problem: ProblemType, column: str) -> list[str]:
    """What the outputs of a model stand for: classes, labels or tags, sorted; of a regression its column."""
    if problem == "regression":
        return [column]
    return sorted(set().union(*map(members, labels)))


def strata(labels: Sequence[Label], problem: ProblemType) -> list[Hashable]:
    """The group that each row is drawn from, so that parts resemble the whole.

    Its class; of several labels or tags its rarest (as iterative stratification begins: Sechidis, Tsoumakas, Vlahavas,
    ECML 2011); of numbers the tenth of the ranks that it lies in.
    """
    if problem == "single_label_classification":
        return list(labels)
    if problem == "regression":
        ordered = sorted(numbers(labels))
        return [STRATA * bisect_left(ordered, number) // len(labels) for number in numbers(labels)]
    counts = Counter(chain.from_iterable(map(members, labels)))
    return [min(members(label), key=lambda name: (counts[name], name), default="") for label in labels]


def numbers(labels: Iterable[Label]) -> list[float]:
    """The labels of a regression."""
    return [label for label in labels if isinstance(label, float)]


def outlier(values: Sequence[float]) -> tuple[int, float]:
    """Which number lies furthest from the median, and all numbers' deviation in how far apart they usually lie.

    That is from quartile to quartile; where those are equal, as of numbers that are mostly 0, the median distance of
    those that are not.
    """
    ordered = sorted(values)
    low, middle, high = (ordered[len(ordered) * quarter // 4] for quarter in (1, 2, 3))
    far = [abs(value - middle) for value in values]
    elsewhere = sorted(filter(None, far))
    usual = high - low or (elsewhere[len(elsewhere) // 2] if elsewhere else 0.0)
    return far.index(max(far)), pstdev(values) / usual if usual else 0.0


def is_iob2(tags: Iterable[str]) -> bool:
    """Whether all are O, B-something or I-something: then they mark entities."""
    return all(tag == "O" or (tag[:2] in ("B-", "I-") and len(tag) > 2) for tag in tags)


def members(label: Label | None) -> set[str]:
    """The names that a label holds: a class, labels or tags."""
    return {label} if isinstance(label, str) else set(label) if isinstance(label, tuple) else set()
