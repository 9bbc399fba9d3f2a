"""From tables to honest splits: the same arithmetic at the web edge (to refuse) and in the job (to use).

Duplicates are texts that are spelled alike, and pictures of the same pixels (`Example.key`). They are removed within
and across splits, and source rows that repeat any target row are removed too, so that no test row is ever trained on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, zip_longest
from typing import Any

from core.rows.cells import MISSING, spell
from core.rows.columns import Table
from core.rows.example import Example, labels_of, spelling
from core.rows.faults import listed
from core.rows.image.columns import read_pictures
from core.rows.labels import (
    OUTPUTS,
    Label,
    Left,
    Spelled,
    folded,
    label_names,
    no_answer,
    numbers,
    outlier,
    settle,
    spell_labels,
    truths_vary,
)
from core.rows.splitting import searching
from core.rows.splitting.drawing import given_splits, held_out
from core.rows.splitting.learnable import (
    MIN_ROWS,
    check_labels,
    check_names,
    check_numbers,
    counted,
    held,
    kinds,
)
from core.rows.splitting.left_out import counted_reasons, unique, why
from core.rows.text.texts import read_texts
from core.spec.data import SplitRefs
from core.spec.errors import Faults, SpecError
from core.spec.job import SPLIT_COLUMNS, JobSpec
from core.spec.task import UNLABELLED, ProblemType, Source, TaskSpec

MARKS_TRAIN = frozenset(("train", "training", "tr"))
MARKS_OTHERS = frozenset(("test", "dev", "val", "valid", "validation", "eval", "evaluation", "holdout", "held-out"))
REPEATS = (
    "source rows that repeat a target row or an earlier source row",
    "unlabelled rows that repeat a labelled row, a source row or an earlier one",
)
MAX_REACH = 1e4  # of numbers' deviation, in how far apart they usually lie: beyond, one of them hides the others


@dataclass
class Splits:
    """What a job trains and measures on. `dropped` counts rows left out, by reason."""

    labels: list[str]  # what the model's outputs stand for
    train: list[Example]
    dev: list[Example]
    test: list[Example]
    sources: list[list[Example]] = field(default_factory=list)
    unlabelled: list[Example] = field(default_factory=list)  # the target's own
    dropped: Counter[str] = field(default_factory=Counter)
    counts: dict[str, int] = field(default_factory=dict)  # of each label, the rows of all parts that hold it
    notes: list[str] = field(default_factory=list)  # what was understood of labels and texts, in sentences
    warnings: list[str] = field(default_factory=list)  # what of it was guessed, or may be meant otherwise

    @property
    def borrowed(self) -> list[list[Example]]:
        """The rows of all that the job may transfer from, as `JobSpec.borrowed` has them."""
        return [*self.sources, self.unlabelled] if self.unlabelled else self.sources


@dataclass
class Group:
    """The data sets of one task: of the target, or of a source."""

    part: TaskSpec | Source
    problem: ProblemType
    pointer: str
    sets: dict[str, Table]  # by what a fault calls them
    notes: list[str] = field(default_factory=list)
    texts: list[list[tuple[Any, ...]]] = field(default_factory=list)  # of each set, or pictures
    spelled: Spelled | None = None
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def prefixes(self) -> list[str]:
        """How a fault in each set begins."""
        return [f"{name} set: " if name else "" for name in self.sets]

    @property
    def what(self) -> str:
        """What its rows are."""
        return "text" if self.part.image is None else "picture"

    @property
    def inputs(self) -> dict[str, str]:
        """The columns that its rows are read from, by the pointer of the field that names each."""
        if self.part.image is not None:
            return {f"{self.pointer}/image": self.part.image}
        return {f"{self.pointer}/text/{i}": name for i, name in enumerate(self.part.text)}


def prepare(spec: JobSpec, tables: Mapping[str, Table]) -> Splits:
    """Read, check, deduplicate and split. `tables` maps data set id -> table.

    Raises SpecError naming the field for a missing column, a cell that does not hold what the problem asks for (with
    its row), too few rows, one class only, or a label that the training rows never show; SpecErrors where there are
    several of these.
    """
    faults, task = Faults(), spec.task
    data = task.data
    refs = {"train": data.train, "dev": data.dev, "test": data.test} if isinstance(data, SplitRefs) else {"": data}
    target = Group(task, task.problem, "/task", {name: tables[ref.id] for name, ref in refs.items() if ref is not None})
    sources = [
        Group(part, task.problem_of(part), pointer, {"": tables[part.data.id]})
        for pointer, part in spec.borrowed.items()
    ]
    groups = [target, *sources]
    for group in groups:
        _read(group, faults)
    truths = truths_vary(chain.from_iterable(group.spelled.names() for group in groups if group.spelled))
    rows = [_examples(group, truths, faults) for group in groups]
    splits = faults.attempt(partial(_split, spec, target, rows[0])) if rows[0] is not None else None
    seen: dict[str, Label | None] = {}
    if splits and sources:
        parts = (splits.train, splits.dev, splits.test)
        seen = {key: row.label for part in parts for row in part for key in _keys(row, task.problem)}
    kept = [
        faults.attempt(partial(_usable, group, found[0], spec.train.seed, seen))
        for group, found in zip(sources, rows[1:], strict=True)
        if found is not None
    ]
    faults.check()
    assert splits is not None
    *splits.sources, splits.unlabelled = [part for part in kept if part is not None] + [[]] * (not task.unlabelled)
    splits.dropped = sum((group.dropped for group in groups), Counter[str]())
    _say(splits, groups, task, truths)
    splits.warnings += [
        *_unset_labels(task, splits, truths),
        *_unnamed_labels(spec, tables),
        *_seen_before(target, splits.test),
    ]
    return splits


def _read(group: Group, faults: Faults) -> None:
    """The inputs of a group, and what its labels are spelled like; every column that is at fault is named."""
    part, problem = group.part, group.problem
    words, alone = problem == "token_classification", not part.text[1:] and problem not in OUTPUTS
    several, known = isinstance(part.label, list), len(faults.found)
    if words and len(part.text) > 1:
        message = "a token-classification task reads one column, of arrays of words"
        faults.found.append(SpecError(f"{group.pointer}/text", message))
        return
    _check_columns(group, faults)
    missing = {fault.field for fault in faults.found[known:]}
    tables = list(zip(group.prefixes, group.sets.values(), strict=True))
    columns: list[list[list[Any]]] = []
    for pointer, name in group.inputs.items():
        if pointer not in missing:
            sets = [(prefix, table[name]) for prefix, table in tables]
            if part.image is not None:
                columns.append(read_pictures(sets, pointer, faults))
            else:
                columns.append(read_texts(sets, words, alone, pointer, group.notes, faults))
    if part.label is not None and not any(pointer.startswith(f"{group.pointer}/label") for pointer in missing):
        labels = [(prefix, {name: table[name] for name in part.label_columns}) for prefix, table in tables]
        inputs = [table[name].values for _, table in tables for name in group.inputs.values() if name in table]
        tagged = any(isinstance(next(filter(None, values), None), list) for values in inputs)
        group.spelled = spell_labels(labels, problem, several, f"{group.pointer}/label", faults, tagged)
    group.texts = [list(map(_row, zip(*cells, strict=True))) for cells in zip(*columns, strict=True)]


def _check_columns(group: Group, faults: Faults) -> None:
    """Whether the columns are there, and pictures only where such are read."""
    part, several = group.part, isinstance(group.part.label, list)
    labels = {f"{group.pointer}/label" + f"/{i}" * several: name for i, name in enumerate(part.label_columns)}
    for prefix, table in zip(group.prefixes, group.sets.values(), strict=True):
        for pointer, name in (group.inputs | labels).items():
            if name not in table:
                message = f"{prefix}the data set has no column '{name}'; its columns: {', '.join(table)}"
                faults.found.append(SpecError(pointer, message))
            elif table[name].pictures and pointer in labels:
                faults.found.append(SpecError(pointer, f"{prefix}the column '{name}' holds pictures, and no labels"))
            elif table[name].pictures and part.image is None:
                mend = f'"type": "image-classification", "image": {json.dumps(name, ensure_ascii=False)}'
                faults.found.append(SpecError(pointer, f"{prefix}the column '{name}' holds pictures; ask for {mend}"))


def _row(cells: tuple[tuple[Any, ...], ...]) -> tuple[Any, ...]:
    """The texts of a row, or its picture; () where one is missing."""
    return tuple(chain.from_iterable(cells)) if all(cells) else ()


def _examples(group: Group, truths: bool, faults: Faults) -> list[list[Example]] | None:
    """The rows of each set that have what it takes; None where a fault was found in them before."""
    part, problem, label = group.part, group.problem, f"{group.pointer}/label"
    answers: list[list[Label | Left]] = [[] for _ in group.sets]
    if group.spelled is not None and len(group.spelled.rows) == len(group.sets):
        answers = settle(group.spelled, problem, part.label_map, truths, group.prefixes, group.pointer, faults)
    if any(fault.field.startswith(f"{group.pointer}/") for fault in faults.found):
        return None
    rows = [
        faults.attempt(partial(_set, texts, found, problem, label, prefix, group))
        for prefix, texts, found in zip(group.prefixes, group.texts, answers, strict=True)
    ]
    return None if None in rows else [part for part in rows if part is not None]


def _set(
    texts: Sequence[tuple[Any, ...]],
    answers: Sequence[Label | Left],
    problem: ProblemType,
    pointer: str,
    prefix: str,
    group: Group,
) -> list[Example]:
    rows, numbered, dropped = [], [], group.dropped
    for number, (text, label) in enumerate(zip_longest(texts, answers), 1):
        if not text:
            dropped[f"rows without {group.what}"] += 1
        elif isinstance(label, Left):
            dropped[label.reason] += 1
        else:
            if problem == "token_classification" and isinstance(label, tuple) and len(label) != len(text):
                message = f"{prefix}row {number}: {len(label)} tags for {len(text)} words; give one tag a word"
                raise SpecError(pointer, message)
            rows.append(Example(text, label))
            numbered.append(number)
    if problem == "regression" and (values := numbers(labels_of(rows))):
        i, reach = outlier(values)
        if reach > MAX_REACH:
            raise SpecError(
                pointer,
                f"{prefix}row {numbered[i]}: {values[i]:.9g} lies so far from the other numbers that they look alike "
                "beside it; correct it or leave it out (or, if all is as it should be, give logarithms)",
            )
    return rows


def _seen_before(target: Group, test: Sequence[Example]) -> Iterator[str]:
    """Test rows that the data set itself marks as rows to train on, which the user's own model may have done."""
    named = {*target.part.columns, *target.part.label_columns}
    for name, column in target.sets.get("", {}).items():
        if name in named or name.casefold() not in SPLIT_COLUMNS:
            continue
        marks = [spell(mark, column.names).casefold() if isinstance(mark, str | int) else "" for mark in column.values]
        if not MARKS_TRAIN & {*marks} or not MARKS_OTHERS & {*marks}:
            continue
        train = {
            Example(text, None).key for text, mark in zip(target.texts[0], marks, strict=True) if mark in MARKS_TRAIN
        }
        if count := sum(row.key in train for row in test):
            yield (
                f"{count} of the {len(test)} test rows are marked as training rows in the column '{name}': if this "
                "model was trained on them, its numbers flatter it; give the splits as data sets of their own"
            )


def _split(spec: JobSpec, target: Group, sets: list[list[Example]]) -> Splits:
    """The target's parts, checked."""
    task, notes, seed, dropped = spec.task, list[str](), spec.train.seed, target.dropped
    if task.problem in OUTPUTS and sum(map(len, sets)) >= MIN_ROWS:
        searching.require_apart([*chain.from_iterable(sets)], task.problem, "/task")
    if isinstance(task.data, SplitRefs):
        train, dev, test = given_splits(task, dict(zip(target.sets, sets, strict=True)), seed, dropped)
        where = "/task/data/train/dataset"
    else:
        distinct = unique(sets[0], {}, dropped)
        check_names(distinct, task.problem, "/task/label")
        train, dev, test = held_out(distinct, task, seed, dropped, notes)
        where = "/task/data/dataset"
    if task.problem in OUTPUTS:
        return _searched(task, (train, dev, test), seed)
    labels = label_names(labels_of(train), task.problem, task.label_columns[0])
    if task.problem == "regression":
        check_numbers(numbers(labels_of(train)), where)
    else:
        check_labels(task, labels, {"train": train, "dev": dev, "test": test}, where)
    counts = held([*train, *dev, *test])
    return Splits(labels, train, dev, test, counts=dict(sorted(counts.items())), notes=notes)


def _searched(task: TaskSpec, parts: tuple[list[Example], list[Example], list[Example]], seed: int) -> Splits:
    """Parts of texts that are compared, with the labels that follow from them."""
    notes = [searching.understood(parts, task.problem)]
    train, dev, test = (searching.answered(part, task.problem, seed) for part in parts)
    searching.require_measurable(test, task.problem)
    doubts = searching.doubtful(train, test, task.problem)
    return Splits([*OUTPUTS[task.problem]], train, dev, test, notes=notes, warnings=doubts)


def _keys(row: Example, problem: ProblemType) -> list[str]:
    """What no source row may repeat: of texts that are compared, each."""
    return [*map(spelling, row.text)] if problem in OUTPUTS else [row.key]


def _usable(group: Group, rows: list[Example], seed: int, seen: dict[str, Label | None]) -> list[Example]:
    """The rows of a source that repeat no other's."""
    problem, reason = group.problem, REPEATS[group.pointer == UNLABELLED]
    if problem in OUTPUTS:
        new = [row for row in rows if not any(key in seen for key in _keys(row, problem))]
        group.dropped[reason] += len(rows) - len(new)
        kept = unique(new, {}, group.dropped, reason)
        seen |= {key: row.label for row in kept for key in _keys(row, problem)}
    else:
        kept = unique(rows, seen, group.dropped, reason)
    if len(kept) < MIN_ROWS:
        raise SpecError(
            f"{group.pointer}/data/dataset",
            f"has {len(kept)} usable rows that do not repeat the target"
            + "'s labelled rows" * (group.pointer == UNLABELLED)
            + f"; at least {MIN_ROWS} are needed"
            + why(group.dropped),
        )
    if problem in OUTPUTS:
        searching.require_apart(kept, problem, group.pointer)
    elif group.part.label is not None and kinds(kept, problem) < 2:
        raise SpecError(
            f"{group.pointer}/label", f"has one class only; leave 'label' out to use the {group.what} alone"
        )
    check_names(kept, problem, f"{group.pointer}/label")
    return searching.answered(kept, problem, seed)


def _say(splits: Splits, groups: Sequence[Group], task: TaskSpec, truths: bool) -> None:
    """What was understood of labels and texts, and what of it was guessed."""
    written: dict[str, set[str]] = {}
    for group in groups:
        if group.spelled is None:
            continue
        for name, forms in group.spelled.written.items():
            written.setdefault(folded(name, truths), set()).update(forms)
        splits.warnings += group.spelled.warnings
    rows = [row for part in (splits.train, splits.dev, splits.test) for row in part]
    if splits.counts:
        what = {"multi_label_classification": "labels", "token_classification": "tags"}.get(task.problem, "classes")
        splits.notes.append(f"{len(splits.counts)} {what} in {len(rows)} rows: {counted(splits.counts, 20)}")
    for i, group in enumerate(groups):
        said = [*group.notes, *(group.spelled.notes if group.spelled else [])]
        name = "unlabelled: " if group.pointer == UNLABELLED else f"sources[{i - 1}]: " if i else ""
        splits.notes += [name + note for note in said]
    for name, forms in sorted(written.items()):
        if len(forms) > 1:
            alike = " and ".join(f"`{form}`" for form in sorted(forms)[:3]) + " and others" * (len(forms) > 3)
            splits.notes.append(f"{alike} are taken as one, `{name}`")
    if splits.dropped:
        splits.notes.append("left out: " + counted_reasons(splits.dropped))
    for name in sorted(MISSING | {"-1", "NA"}):
        if count := splits.dropped[no_answer(name).reason]:
            mend = f'; if it is a class, say so: "label_map": {{"{name}": "{name}"}}'
            splits.warnings.append(
                f"the label '{name}' of {count} rows is taken as no answer, and they are left out"
                + mend * isinstance(task.label, str)
            )


def _unset_labels(task: TaskSpec, splits: Splits, truths: bool) -> Iterator[str]:
    """Columns of one label each that no row sets."""
    if not isinstance(task.label, list):
        return
    known = {*splits.labels, *map(spell, task.label_map)}
    if unset := [name for name in task.label if not {folded(name, truths), spell(name)} & known]:
        it, apply = ("them", "apply") if unset[1:] else ("it", "applies")
        yield (
            f"no row says that {listed(unset)} {apply}: the model will not know {it}; leave {it} out of 'label', "
            f"or give rows that show {it}"
        )


def _unnamed_labels(spec: JobSpec, tables: Mapping[str, Table]) -> Iterator[str]:
    """Sources that have the target's label column, which they do not name."""
    for i, source in enumerate(spec.sources):
        columns, what = spec.task.label_columns, "text" if source.image is None else "picture"
        if columns and source.label is None and set(columns) <= {*tables[source.data.id]}:
            names = " and ".join(f"'{name}'" for name in spec.task.label_columns[:3])
            yield (
                f"sources[{i}] names no 'label', so that its {what} alone is used; its data set has {names}: give "
                "'label' to learn from it, too"
            )
