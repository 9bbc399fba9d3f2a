"""What to know of a job's rows before its numbers are believed: said when a job is planned, and in its report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain

from core.rows.example import labels_of
from core.rows.labels import MULTI, members, numbers, outlier
from core.rows.splitting.learnable import are_numbered, counted, is_number
from core.rows.splitting.left_out import CONFLICTS_OF
from core.rows.splitting.splits import Splits
from core.spec.task import IMAGES, TaskSpec

FAR = 100  # in the unit of core.rows.splitting.splits.MAX_REACH
MOST = 0.9  # of the rows are of one class
MANY = 0.65  # of the rows are of one class, and
LITTLE = 50  # training rows of the others
FEW = 10  # test rows of a class
AMOUNTS = 20  # more numbers than classes usually have
SCARCE = 5  # rows of a class, in all parts
MAY_BE_NONE = frozenset(
    ("none", "na", "n/a", "n.a.", "nan", "null", "nil", "?", "-", "--", "unknown", "missing", "undefined", "unlabeled")
)


def doubts(task: TaskSpec, splits: Splits) -> Iterator[str]:
    """One sentence each."""
    yield from splits.warnings
    if task.problem != "regression":
        yield from _names(task, splits)
    for what, reason in CONFLICTS_OF.items():
        if count := splits.dropped[reason]:
            yield f"{count} {reason}: of each {what} the first row is used"
    if task.problem == "regression":
        measured = {*numbers(labels_of(splits.test))}
        if len(measured) == 1:
            yield (
                f"all test rows have one value ({measured.pop():g}): no correlation can be told on them, only how far "
                "answers are off; if that is no answer, give test rows that have theirs"
            )
        values = numbers(labels_of([*splits.train, *splits.dev, *splits.test]))
        i, reach = outlier(values)
        if reach > FAR:
            yield (
                f"the number {values[i]:.9g} lies far from the others, and errors are squared; if it is right, "
                "logarithms may be learned better"
            )
    if task.metric == "accuracy":
        yield from _one_class(splits)
    if task.type in ("text-classification", IMAGES) and task.problem != "regression":
        yield from _scarce(splits)
        yield from _rare(task, splits)


def _names(task: TaskSpec, splits: Splits) -> Iterator[str]:
    """Of labels that may not mean what they seem to."""
    alike: dict[str, list[str]] = {}
    for name in sorted(splits.counts, key=lambda name: (-splits.counts[name], not name.islower(), name)):
        alike.setdefault(_folded(name), []).append(name)
    several = [names for names in alike.values() if names[1:]]
    if several:
        listed = "; ".join(" and ".join(_rows(name, splits) for name in names) for names in several[:3])
        merged = {name: names[0] for names in several for name in names[1:]}
        yield f"labels that are spelled much alike are kept apart: {listed}; if they are one: {_map(merged)}"
    for i, rows in enumerate(splits.sources):
        said = set().union(*(members(row.label) for row in rows))
        theirs = sorted(said - {*splits.counts})
        near = {name: alike[_folded(name)][0] for name in theirs if _folded(name) in alike}
        if near:
            pairs = ", ".join(f"'{name}' for '{mine}'" for name, mine in list(near.items())[:3])
            yield f"sources[{i}] says {pairs}: if they are one, give it {_map(near)}, so that they share a head"
        elif theirs and len(theirs) == len(said) == len(splits.counts):
            first = dict(zip(theirs, sorted(splits.counts), strict=True))
            yield (
                f"sources[{i}] has as many labels, and other ones ({_some(theirs)} for {_some([*first.values()])}): if "
                f"they mean the same, say which is which, as in {_map(first)}, so that they share a head"
            )
    if task.type == "token-classification":
        return
    joined = [name for name in splits.counts if "|" in name]
    parts = {part.strip() for name in splits.counts for part in name.split("|")}
    if task.problem == "single_label_classification" and 2 * len(joined) > len(splits.counts) > len(parts):
        yield (
            f"most labels hold a bar ({_some(joined)}), and are made of {len(parts)} names: where several apply to a "
            f"row, ask for {MULTI}"
        )
    if {*splits.counts} == {"-1", "0", "1"}:
        yield f"{_rows('-1', splits)} may stand for no answer; if so, leave them out: {_map({'-1': None})}"
    for name in splits.counts:
        if name.casefold() in MAY_BE_NONE and name not in task.label_map.values():
            if task.problem == "multi_label_classification":
                yield f"{_rows(name, splits)} is a label of its own: where none applies, give [] or an empty cell"
                continue
            yield f"{_rows(name, splits)} may stand for no answer; if so, leave them out: {_map({name: None})}"
    numbered = [name for name in splits.counts if is_number(name)]
    amounts = len(numbered) > AMOUNTS or not all(float(name).is_integer() for name in numbered)
    if amounts and len(numbered) == len(splits.counts) and task.by_class and not are_numbered(numbered):
        yield f'the labels are numbers ({_some(numbered)}): for amounts ask for "problem_type": "regression"'
    if numbered and len(numbered) < len(splits.counts):
        other = next(name for name in splits.counts if name not in numbered)
        yield (
            f"some labels are numbers ({_some(numbered)}), others names: if two ways of labelling are mixed, rename "
            f"one: {_map({numbered[0]: other})}"
        )


def _scarce(splits: Splits) -> Iterator[str]:
    few = {name: count for count, name in sorted((n, name) for name, n in splits.counts.items()) if count < SCARCE}
    if few:
        first = next(iter(few))
        yield (
            f"{len(few)} of {len(splits.counts)} labels have fewer than {SCARCE} rows ({counted(few, 5)}), which teach "
            f"and measure little (a single row trains): merge them, or leave them out: {_map({first: 'other'})} or "
            f"{_map({first: None})}"
        )


def _folded(name: str) -> str:
    if not any(map(str.isalpha, name)):
        return name
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _rows(name: str, splits: Splits) -> str:
    return f"'{name}' ({splits.counts[name]:,} rows)"


def _map(names: Mapping[str, str | None]) -> str:
    return f'"label_map": {json.dumps(dict(list(names.items())[:5]), ensure_ascii=False)}'


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


def _rare(task: TaskSpec, splits: Splits) -> Iterator[str]:
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
