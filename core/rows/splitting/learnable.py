"""Whether the labels of rows can be learned: names that repeat, numbers that vary, shown by training rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from math import isfinite
from statistics import fmean, pstdev

from core.rows.example import Example, labels_of
from core.rows.labels import OUTPUTS, label_names, members, no_entity_tag
from core.spec.data import SplitRefs
from core.spec.errors import Faults, SpecError
from core.spec.task import ProblemType, TaskSpec

MIN_ROWS = 10
UNIQUE = 0.9  # classes, as a share of the rows: more are no names of classes
MAX_LABELS = 1000
MAX_LABEL_CHARS = 200
MAX_LABELS_CHARS = 50_000  # of all labels: they are said in one line of the report
MAX_OFFSET = 1000  # standard deviations between 0 and the mean of numbers: further off, float32 blurs them


def names(rows: Sequence[Example]) -> set[str]:
    """The labels that rows hold."""
    return set(held(rows))


def held(rows: Sequence[Example]) -> Counter[str]:
    """How many rows hold each label."""
    return Counter(chain.from_iterable(members(row.label) for row in rows))


def counted(names: Mapping[str, int], most: int) -> str:
    """Labels with their counts, the first `most` of them."""
    said = ", ".join(f"'{name}' ({count:,})" for name, count in list(names.items())[:most])
    return said + f" and {len(names) - most:,} more" * (len(names) > most)


def kinds(rows: Sequence[Example], problem: ProblemType) -> int:
    """How many different answers the rows show."""
    labels = labels_of(rows)
    return len(label_names(labels, problem, "")) if problem == "token_classification" else len(set(labels))


def check_labels(task: TaskSpec, labels: list[str], parts: Mapping[str, Sequence[Example]], where: str) -> None:
    """Whether classes, labels or tags, `labels` of the training rows, are several and known; raises SpecErrors.

    `where`: the field to blame for the training rows.
    """
    given = isinstance(task.data, SplitRefs)
    if kinds([row for part in parts.values() for row in part], task.problem) < 2:
        raise SpecError(
            "/task/label",
            f"has one class only ({', '.join(map(repr, labels[:5])) or 'no label'}): there is nothing to classify",
        )
    if not labels:
        raise SpecError(where, "no training row holds any label: there is nothing to learn")
    faults = Faults()
    for name in ("dev", "test"):
        unseen = {label: count for label, count in sorted(held(parts[name]).items()) if label not in labels}
        if unseen:
            least = len(names([row for part in parts.values() for row in part]))
            few = f"use more training rows ({len(parts['train'])} now, for {least} labels)"
            mend = "add training rows that show them" if given else few
            first = next(iter(unseen))
            detail = f"the {name} rows hold labels that no training row shows: {counted(unseen, 5)}; {mend}, or merge "
            detail += f'or leave out: "label_map": {{"{first}": "{labels[0]}"}} or {{"{first}": null}}'
            faults.found.append(SpecError(f"/task/data/{name}" if given else "/task/split", detail))
    faults.check()
    if kinds(parts["train"], task.problem) < 2:
        raise SpecError(where, f"the training rows show one class only ({labels[0]!r})")
    if task.metric == "entity_f1" and (odd := no_entity_tag(labels)):
        raise SpecError(
            "/task/metric",
            "entity_f1 needs tags that mark entities (O, B-x, I-x, by IOB, BIOES or BILOU), and "
            f"{', '.join(map(repr, odd[:5]))} {'do' if odd[1:] else 'does'} not; ask for 'token_accuracy', or rename: "
            f'"label_map": {{"{odd[0]}": "O"}}',
        )


def check_names(rows: Sequence[Example], problem: ProblemType, pointer: str) -> None:
    """Whether labels are names that repeat, and not texts, keys or numbers; raises SpecError."""
    if problem == "regression" or problem in OUTPUTS or not (labels := label_names(labels_of(rows), problem, "")):
        return
    says = "is it the right column?"
    if pointer.startswith("/sources"):
        says += " Leave 'label' out to use the rows without it"
    elif problem == "single_label_classification" and all(map(is_number, labels)) and not are_numbered(labels):
        says = 'if these are amounts, ask for "problem_type": "regression"'
    if len(labels) > MAX_LABELS:
        raise SpecError(pointer, f"has {len(labels)} classes, and at most {MAX_LABELS} are supported; {says}")
    share = 0.5 if "regression" in says else UNIQUE
    if problem == "single_label_classification" and len(labels) > share * len(rows) and len(rows) >= MIN_ROWS:
        raise SpecError(pointer, f"has {len(labels)} classes in {len(rows)} rows; {says}")
    longest = max(map(len, labels))
    if longest > MAX_LABEL_CHARS or sum(map(len, labels)) > MAX_LABELS_CHARS:
        raise SpecError(
            pointer,
            f"has classes of up to {longest:,} characters; is it the right column? At most {MAX_LABEL_CHARS} are "
            f"supported, and {MAX_LABELS_CHARS:,} in all",
        )


def are_numbered(labels: Sequence[str]) -> bool:
    """Whether they are the whole numbers from 0 or 1 on: classes by number, and no amounts."""
    return any({*labels} == {str(i + first) for i in range(len(labels))} for first in (0, 1))


def is_number(name: str) -> bool:
    """Whether a name can be read as a finite number."""
    try:
        return isfinite(float(name))
    except ValueError:
        return False


def check_numbers(train: list[float], where: str) -> None:
    """Whether the numbers of a regression vary by enough to be learned; raises SpecError."""
    spread, mean = pstdev(train), fmean(train)
    if not spread:
        raise SpecError(where, f"the training rows show one value only ({mean:g}): there is nothing to learn")
    if abs(mean) > MAX_OFFSET * spread:
        raise SpecError(
            "/task/label", f"lies around {mean:g} and varies by {spread:g} only, which float32 blurs: subtract {mean:g}"
        )
