"""From tables to honest splits: the same arithmetic at the web edge (to refuse) and in the job (to use).

Duplicates are texts that are spelled alike, and pictures of the same pixels (`Example.key`). They are removed within
and across splits, and source rows that repeat any target row are removed too, so that no test row is ever trained on.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, zip_longest
from math import isfinite
from statistics import fmean, pstdev
from typing import Any

from core.rows import searching
from core.rows.cells import MISSING, spell
from core.rows.columns import Table
from core.rows.example import Example, labels_of, spelling
from core.rows.image.columns import read_pictures
from core.rows.image.picture import Picture
from core.rows.labels import (
    OUTPUTS,
    Label,
    Left,
    Spelled,
    folded,
    label_names,
    members,
    no_answer,
    no_entity_tag,
    numbers,
    outlier,
    settle,
    spell_labels,
    strata,
    truths_vary,
)
from core.rows.text.texts import read_texts
from core.spec.data import SplitRefs
from core.spec.errors import Faults, SpecError
from core.spec.job import SPLIT_COLUMNS, JobSpec
from core.spec.task import UNLABELLED, ProblemType, Source, TaskSpec

MIN_ROWS = 10
UNIQUE = 0.9  # classes, as a share of the rows: more are no names of classes
MARKS_TRAIN = frozenset(("train", "training", "tr"))
MARKS_OTHERS = frozenset(("test", "dev", "val", "valid", "validation", "eval", "evaluation", "holdout", "held-out"))
DUPLICATES = "duplicate rows in the target"
CONFLICTS = "rows of the target that repeat a text with another label"
CONFLICTS_OF = {"text": CONFLICTS, "picture": "rows of the target that repeat a picture with another label"}
REPEATS = (
    "source rows that repeat a target row or an earlier source row",
    "unlabelled rows that repeat a labelled row, a source row or an earlier one",
)
TRAIN = 0.6  # of a data set that is to be split
MAX_LABELS = 1000
MAX_LABEL_CHARS = 200
MAX_LABELS_CHARS = 50_000  # of all labels: they are said in one line of the report
MAX_REACH = 1e4  # of numbers' deviation, in how far apart they usually lie: beyond, one of them hides the others
MAX_OFFSET = 1000  # standard deviations between 0 and the mean of numbers: further off, float32 blurs them


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
    splits.warnings += [*_unnamed_labels(spec, tables), *_seen_before(target, splits.test)]
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
        group.spelled = spell_labels(labels, problem, several, f"{group.pointer}/label", faults)
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
        train, dev, test = _given_splits(task, dict(zip(target.sets, sets, strict=True)), seed, dropped)
        where = "/task/data/train/dataset"
    else:
        unique = _unique(sets[0], {}, dropped)
        _check_names(unique, task.problem, "/task/label")
        train, dev, test = _held_out(unique, task, seed, dropped, notes)
        where = "/task/data/dataset"
    if task.problem in OUTPUTS:
        return _searched(task, (train, dev, test), seed)
    labels = label_names(labels_of(train), task.problem, task.label_columns[0])
    if task.problem == "regression":
        _check_numbers(numbers(labels_of(train)), where)
    else:
        _check_labels(task, labels, {"train": train, "dev": dev, "test": test}, where)
    counts = _held([*train, *dev, *test])
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
        kept = _unique(new, {}, group.dropped, reason)
        seen |= {key: row.label for row in kept for key in _keys(row, problem)}
    else:
        kept = _unique(rows, seen, group.dropped, reason)
    if len(kept) < MIN_ROWS:
        raise SpecError(
            f"{group.pointer}/data/dataset",
            f"has {len(kept)} usable rows that do not repeat the target"
            + "'s labelled rows" * (group.pointer == UNLABELLED)
            + f"; at least {MIN_ROWS} are needed"
            + _why(group.dropped),
        )
    if problem in OUTPUTS:
        searching.require_apart(kept, problem, group.pointer)
    elif group.part.label is not None and _kinds(kept, problem) < 2:
        raise SpecError(
            f"{group.pointer}/label", f"has one class only; leave 'label' out to use the {group.what} alone"
        )
    _check_names(kept, problem, f"{group.pointer}/label")
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
            listed = " and ".join(f"`{form}`" for form in sorted(forms)[:3]) + " and others" * (len(forms) > 3)
            splits.notes.append(f"{listed} are taken as one, `{name}`")
    if splits.dropped:
        splits.notes.append("left out: " + _counted_reasons(splits.dropped))
    for name in sorted(MISSING | {"-1"}):
        if count := splits.dropped[no_answer(name).reason]:
            mend = f'; if it is a class, say so: "label_map": {{"{name}": "{name}"}}'
            splits.warnings.append(
                f"the label '{name}' of {count} rows is taken as no answer, and they are left out"
                + mend * isinstance(task.label, str)
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


def _unique(
    rows: Sequence[Example], seen: dict[str, Label | None], dropped: Counter[str], reason: str = DUPLICATES
) -> list[Example]:
    """Rows whose text, or picture, is new; `seen`, the labels of these, grows by them."""
    kept = []
    for row in rows:
        if (key := row.key) not in seen:
            seen[key] = row.label
            kept.append(row)
        else:
            conflict = CONFLICTS_OF["picture" if isinstance(row.text[0], Picture) else "text"]
            dropped[conflict if reason == DUPLICATES and seen[key] != row.label else reason] += 1
    return kept


def _given_splits(
    task: TaskSpec, sets: Mapping[str, list[Example]], seed: int, dropped: Counter[str]
) -> tuple[list[Example], list[Example], list[Example]]:
    seen: dict[str, Label | None] = {}
    given: dict[str, list[Example]] = {}
    faults = Faults()
    # The test rows are kept whole: a duplicate is taken out of what trains, not out of what measures.
    for name in ("test", "dev", "train"):
        if (rows := sets.get(name)) is None:
            continue
        before = " or ".join(given)
        given[name] = _unique(rows, seen, dropped)
        if not given[name] and (rows or name != "train"):
            repeats = f"each of its {len(rows)} rows repeats a {before} row, and is left out; give other rows"
            detail = repeats if rows else "has no usable rows" + _why(dropped)
            faults.found.append(SpecError(f"/task/data/{name}/dataset", detail))
    faults.check()
    rows = given["train"]
    if len(rows) < MIN_ROWS:
        detail = f"has {len(rows)} usable training rows; at least {MIN_ROWS} are needed" + _why(dropped)
        raise SpecError("/task/data/train/dataset", detail)
    _check_names(rows, task.problem, "/task/label")
    share = {name: getattr(task.split, name) or 0.2 for name in ("dev", "test") if name not in given}
    counts = {n: s if isinstance(s, int) else max(1, round(s * len(rows))) for n, s in share.items()}
    if sum(counts.values()) > len(rows) - MIN_ROWS:
        asked = " + ".join(f"{count} {name}" for name, count in counts.items())
        raise SpecError(
            "/task/split",
            f"asks for {asked} rows of the train set, which has {len(rows)} usable ones, and at least {MIN_ROWS} "
            "are to be left",
        )
    wanted, there = task.split.train, len(rows) - sum(counts.values())
    count = wanted if isinstance(wanted, int) else max(1, round(wanted * there)) if wanted is not None else None
    if count is not None and count > there:
        raise SpecError("/task/split/train", f"asks for {count} rows of the train set, where {there} are left")
    shown = [row for name in ("dev", "test") for row in given.get(name, [])]
    *held, given["train"] = _drawn(rows, task.problem, list(counts.values()), count, seed, shown)
    given |= zip(counts, held, strict=True)
    return given["train"], given["dev"], given["test"]


def _why(dropped: Counter[str]) -> str:
    """What was left out, to end a sentence that complains of too few rows."""
    return f" (left out: {_counted_reasons(dropped)})" if dropped else ""


def _counted_reasons(dropped: Counter[str]) -> str:
    return ", ".join(f"{reason} ({count:,})" for reason, count in sorted(dropped.items()))


def _held_out(
    rows: Sequence[Example], task: TaskSpec, seed: int, dropped: Counter[str], notes: list[str]
) -> tuple[list[Example], list[Example], list[Example]]:
    n, split, pointer = len(rows), task.split, "/task/split"
    if n < MIN_ROWS:
        detail = f"has {n} usable, distinct rows; at least {MIN_ROWS} are needed" + _why(dropped)
        raise SpecError("/task/data/dataset", detail)
    train, dev = (s if isinstance(s, int) else max(1, round(s * n)) for s in (split.train or TRAIN, split.dev))
    few = split.train is None and split.test is None and train < len(_names(rows))
    if few and train < (least := len(_one_of_each(rows, seed))) < n - dev:
        notes.append(f"{least} rows train instead of {train}, so that training shows each of the labels")
        train = least
    test = n - train - dev if split.test is None else split.test
    test = test if isinstance(test, int) else min(max(1, round(test * n)), max(1, n - train - dev))
    if test == 0:
        raise SpecError(
            pointer, f"asks for {train} train + {dev} dev rows of {n} distinct ones: none is left to test on"
        )
    if train + dev + test > n or test < 0:
        asked = f"{train} train + {dev} dev" + f" + {test} test" * (test > 0)
        raise SpecError(pointer, f"asks for {asked} rows, but the data set has {n} distinct ones")
    dev_rows, test_rows, train_rows = _drawn(rows, task.problem, [dev, test], train, seed)
    return train_rows, dev_rows, test_rows


def _drawn(
    rows: Sequence[Example],
    problem: ProblemType,
    held: Sequence[int],
    train: int | None,
    seed: int,
    shown: Sequence[Example] = (),
) -> list[list[Example]]:
    """Parts of `held` rows each, then `train` of what is left, or all; `shown` rows are held out already.

    Where training would lack a label that held-out rows show, a row of each label is set aside for it first.
    """
    if problem in OUTPUTS:
        return searching.parted(rows, held, train, seed)
    *parts, rest = _stratified(rows, problem, held, seed, spare=1) if held else [list(rows)]
    drawn = rest if train is None else _stratified(rest, problem, [train], seed)[0]
    if _names([*shown, *chain.from_iterable(parts)]) <= _names(drawn):
        return [*parts, drawn]
    aside = _one_of_each(rows, seed)
    left = len(rows) - sum(held) if train is None else train
    if len(aside) > left:
        return [*parts, drawn]
    apart = set(map(id, aside))
    *parts, rest = _stratified([row for row in rows if id(row) not in apart], problem, held, seed)
    return [*parts, aside + _stratified(rest, problem, [left - len(aside)], seed)[0]]


def _names(rows: Sequence[Example]) -> set[str]:
    return set(_held(rows))


def _held(rows: Sequence[Example]) -> Counter[str]:
    """How many rows hold each label."""
    return Counter(chain.from_iterable(members(row.label) for row in rows))


def counted(names: Mapping[str, int], most: int) -> str:
    """Labels with their counts, the first `most` of them."""
    said = ", ".join(f"'{name}' ({count:,})" for name, count in list(names.items())[:most])
    return said + f" and {len(names) - most:,} more" * (len(names) > most)


def _one_of_each(rows: Sequence[Example], seed: int) -> list[Example]:
    """Rows that show every label, drawn for the rarest first."""
    holders: dict[str, list[Example]] = {}
    for row in random.Random(seed).sample(rows, len(rows)):
        for name in members(row.label):
            holders.setdefault(name, []).append(row)
    drawn: list[Example] = []
    found: set[str] = set()
    for name in sorted(holders, key=lambda name: (len(holders[name]), name)):
        if name not in found:
            drawn.append(holders[name][0])
            found |= members(holders[name][0].label)
    return drawn


def _stratified(
    rows: Sequence[Example], problem: ProblemType, counts: Sequence[int], seed: int, spare: int = 0
) -> list[list[Example]]:
    """Draw parts of exactly `counts` rows, each with the strata in proportion (largest remainder), and the rest.

    A stratum that has a row for every part, and `spare` ones for the rest, gives each a row where there is room.
    """
    by_label: dict[Hashable, list[Example]] = {}
    for row, stratum in zip(rows, strata(labels_of(rows), problem), strict=True):
        by_label.setdefault(stratum, []).append(row)
    rng = random.Random(seed)
    for label in sorted(by_label, key=str):
        rng.shuffle(by_label[label])
    shared = {label for label, group in by_label.items() if len(group) >= len(counts) + spare}
    parts = []
    for count in counts:
        left = sum(map(len, by_label.values()))
        count = min(count, left)
        exact = {label: count * len(group) / left for label, group in by_label.items()} if left else {}
        take = {label: int(share) for label, share in exact.items()}
        by_remainder = sorted(exact, key=lambda label: (take[label] - exact[label], str(label)))
        for label in by_remainder[: count - sum(take.values())]:
            take[label] += 1
        for label in by_remainder:
            if take[label] or label not in shared or not by_label[label]:
                continue
            giver = max(take, key=lambda label: (take[label], str(label)))
            if take[giver] < 2:
                break
            take[giver], take[label] = take[giver] - 1, 1
        part = []
        for label, group in by_label.items():
            taken = take.get(label, 0)
            part += group[:taken]
            by_label[label] = group[taken:]
        rng.shuffle(part)
        parts.append(part)
    rest = [row for group in by_label.values() for row in group]
    rng.shuffle(rest)
    return [*parts, rest]


def _kinds(rows: Sequence[Example], problem: ProblemType) -> int:
    """How many different answers the rows show."""
    labels = labels_of(rows)
    return len(label_names(labels, problem, "")) if problem == "token_classification" else len(set(labels))


def _check_labels(task: TaskSpec, labels: list[str], parts: Mapping[str, Sequence[Example]], where: str) -> None:
    given = isinstance(task.data, SplitRefs)
    if _kinds([row for part in parts.values() for row in part], task.problem) < 2:
        raise SpecError(
            "/task/label",
            f"has one class only ({', '.join(map(repr, labels[:5])) or 'no label'}): there is nothing to classify",
        )
    faults = Faults()
    for name in ("dev", "test"):
        unseen = {label: count for label, count in sorted(_held(parts[name]).items()) if label not in labels}
        if unseen:
            least = len(_names([row for part in parts.values() for row in part]))
            few = f"use more training rows ({len(parts['train'])} now, for {least} labels)"
            mend = "add training rows that show them" if given else few
            first = next(iter(unseen))
            detail = f"the {name} rows hold labels that no training row shows: {counted(unseen, 5)}; {mend}, or merge "
            detail += f'or leave out: "label_map": {{"{first}": "{labels[0]}"}} or {{"{first}": null}}'
            faults.found.append(SpecError(f"/task/data/{name}" if given else "/task/split", detail))
    faults.check()
    if _kinds(parts["train"], task.problem) < 2:
        raise SpecError(where, f"the training rows show one class only ({labels[0]!r})")
    if task.metric == "entity_f1" and (odd := no_entity_tag(labels)):
        raise SpecError(
            "/task/metric",
            "entity_f1 needs tags that mark entities (O, B-x, I-x, by IOB, BIOES or BILOU), and "
            f"{', '.join(map(repr, odd[:5]))} {'do' if odd[1:] else 'does'} not; ask for 'token_accuracy', or rename: "
            f'"label_map": {{"{odd[0]}": "O"}}',
        )


def _check_names(rows: Sequence[Example], problem: ProblemType, pointer: str) -> None:
    """Whether labels are names that repeat, and not texts, keys or numbers."""
    if problem == "regression" or problem in OUTPUTS or not (labels := label_names(labels_of(rows), problem, "")):
        return
    says = "is it the right column?"
    if pointer.startswith("/sources"):
        says += " Leave 'label' out to use the rows without it"
    elif problem == "single_label_classification" and all(map(_is_number, labels)) and not _are_numbered(labels):
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


def _are_numbered(labels: Sequence[str]) -> bool:
    """Whether they are the whole numbers from 0 or 1 on: classes by number, and no amounts."""
    return any({*labels} == {str(i + first) for i in range(len(labels))} for first in (0, 1))


def _is_number(name: str) -> bool:
    try:
        return isfinite(float(name))
    except ValueError:
        return False


def _check_numbers(train: list[float], where: str) -> None:
    """Of a regression."""
    spread, mean = pstdev(train), fmean(train)
    if not spread:
        raise SpecError(where, f"the training rows show one value only ({mean:g}): there is nothing to learn")
    if abs(mean) > MAX_OFFSET * spread:
        raise SpecError(
            "/task/label", f"lies around {mean:g} and varies by {spread:g} only, which float32 blurs: subtract {mean:g}"
        )
