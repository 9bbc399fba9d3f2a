"""From tables of strings to honest splits: the same arithmetic at the web edge (to refuse) and in the job (to use).

Duplicates are texts that are spelled alike (`Example.key`). They are removed within and across splits, and
source rows that repeat any target row are removed too, so that no test text is ever trained on.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from math import isfinite
from statistics import fmean, pstdev
from typing import TypeVar

from core.spec.job import JobSpec
from core.spec.labels import Label, is_iob2, label_names, members, numbers, outlier, read_label, read_words, strata
from core.spec.problems import SpecError
from core.spec.task import ProblemType, Source, SplitRefs, Task

T = TypeVar("T")
Table = Mapping[str, Sequence[str | None]]  # column -> values

MIN_ROWS = 10
DUPLICATES = "duplicate rows in the target"
CONFLICTS = "rows of the target that repeat a text with another label"
TRAIN = 0.6  # of a data set that is to be split
MAX_LABELS = 1000
MAX_LABEL_CHARS = 200
MAX_LABELS_CHARS = 50_000  # of all labels: they are said in one line of the report
BEYOND_ASCII = re.compile("[^\x00-\x7f][^!-~]*")  # and the spaces between such words
# Accents, and what is not seen: soft hyphens, zero widths, directions, variants of signs, byte order marks.
UNSEEN = re.compile("[\u00ad\u0300-\u036f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
PLAIN = dict(zip("‘’‚“”„‐–—−", "'''\"\"\"----", strict=True))
CURLY = re.compile(f"[{''.join(PLAIN)}]")
MAX_REACH = 1e4  # of numbers' deviation, in how far apart they usually lie: beyond, one of them hides the others
MAX_OFFSET = 1000  # standard deviations between 0 and the mean of numbers: further off, float32 blurs them


@dataclass(frozen=True)
class Example:
    """One row: one text, a pair, or the words of one text; and its label where it has one."""

    text: tuple[str, ...]
    label: Label | None

    @property
    def key(self) -> str:
        """What makes two rows duplicates of each other."""
        return "\x1f".join(map(spelling, self.text))


@dataclass
class Splits:
    """What a job trains and measures on. `dropped` counts rows left out, by reason."""

    labels: list[str]  # what the model's outputs stand for
    train: list[Example]
    dev: list[Example]
    test: list[Example]
    sources: list[list[Example]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def prepare(spec: JobSpec, tables: Mapping[str, Table]) -> Splits:
    """Read, check, deduplicate and split. `tables` maps data set id -> table.

    Raises SpecError naming the field for a missing column, a cell that does not hold what the problem asks for (with
    its row), too few rows, one class only, or a label that the training rows never show.
    """
    dropped: Counter[str] = Counter()
    task = spec.task
    if isinstance(task.data, SplitRefs):
        parts = _given_splits(task, tables, spec.train.seed, dropped)
        where = "/task/data/train/dataset"
    else:
        rows = _examples(tables[task.data.id], task, task.problem, "/task", dropped)
        unique = _unique(rows, {}, dropped)
        _check_names(unique, task.problem, "/task/label")
        parts = _held_out(unique, task, spec.train.seed, "/task/split")
        where = "/task/data/dataset"
    train, dev, test = parts
    labels = label_names(labels_of(train), task.problem, task.label)
    if task.problem == "regression":
        _check_numbers(numbers(labels_of(train)), where)
    else:
        _check_labels(task, labels, {"train": train, "dev": dev, "test": test}, where)

    seen = {row.key: row.label for part in parts for row in part}
    sources = []
    for i, source in enumerate(spec.sources):
        rows = _examples(tables[source.data.id], source, task.problem, f"/sources/{i}", dropped)
        kept = _unique(rows, seen, dropped, "source rows that repeat a target row or an earlier source row")
        if len(kept) < MIN_ROWS:
            raise SpecError(
                f"/sources/{i}/data/dataset",
                f"has {len(kept)} usable rows that do not repeat the target; at least {MIN_ROWS} are needed",
            )
        if source.label is not None and _kinds(kept, task.problem) < 2:
            raise SpecError(f"/sources/{i}/label", "has one class only; leave 'label' out to use the text alone")
        _check_names(kept, task.problem, f"/sources/{i}/label")
        sources.append(kept)
    return Splits(labels, train, dev, test, sources, dropped)


def spelling(text: str) -> str:
    """A text without case, white space, accents, typography and what is not seen: models read most of these alike.

    Other signs stay: without them C++ would be C, 1.5 be 15, and a smile a frown, whose labels may well differ.
    """
    return "".join(BEYOND_ASCII.sub(_plain, text).casefold().split()) or text


def _plain(found: re.Match[str]) -> str:
    folded = UNSEEN.sub("", unicodedata.normalize("NFKD", found[0]))
    return CURLY.sub(lambda sign: PLAIN[sign[0]], folded)


def labels_of(rows: Sequence[Example]) -> list[Label]:
    """The labels of rows that have one."""
    return [row.label for row in rows if row.label is not None]


def _examples(
    table: Table, part: Task | Source, problem: ProblemType, pointer: str, dropped: Counter[str]
) -> list[Example]:
    words = problem == "token_classification"
    if words and len(part.text) > 1:
        raise SpecError(f"{pointer}/text", "a token-classification task reads one column, of arrays of words")
    for i, name in enumerate(part.text):
        _require(table, name, f"{pointer}/text/{i}")
    if part.label is not None:
        _require(table, part.label, f"{pointer}/label")
    texts = zip(*(table[name] for name in part.text), strict=True)
    labels = table[part.label] if part.label is not None else [None] * len(table[part.text[0]])
    rows, numbered = [], []
    for number, (text, cell) in enumerate(zip(texts, labels, strict=True), 1):
        full = tuple(cell for cell in text if cell is not None and cell.strip())
        if words:
            full = tuple(word for one in full for word in _read(read_words, one, f"{pointer}/text/0", number))
        cell = cell.strip() if cell is not None else None
        if len(full) < len(part.text):
            dropped["rows without text"] += 1
        elif part.label is not None and not cell:
            dropped["rows without label"] += 1
        else:
            label = _read(partial(read_label, problem=problem), cell, f"{pointer}/label", number) if cell else None
            if words and isinstance(label, tuple) and len(label) != len(full):
                raise SpecError(
                    f"{pointer}/label", f"row {number}: {len(label)} tags for {len(full)} words; give one tag a word"
                )
            rows.append(Example(full, label))
            numbered.append(number)
    if problem == "regression" and (values := numbers(labels_of(rows))):
        i, reach = outlier(values)
        if reach > MAX_REACH:
            raise SpecError(
                f"{pointer}/label",
                f"row {numbered[i]}: {values[i]:.9g} lies so far from the other numbers that they look alike "
                "beside it; correct it or leave it out (or, if all is as it should be, give logarithms)",
            )
    return rows


def _read(read: Callable[[str], T], cell: str, pointer: str, number: int) -> T:
    """What `read` makes of a cell; its ValueError as a SpecError that names the row."""
    try:
        return read(cell)
    except ValueError as error:
        raise SpecError(pointer, f"row {number}: {error}") from error


def _require(table: Table, name: str, pointer: str) -> None:
    if name not in table:
        raise SpecError(pointer, f"the data set has no column '{name}'; its columns: {', '.join(table)}")


def _unique(
    rows: Sequence[Example], seen: dict[str, Label | None], dropped: Counter[str], reason: str = DUPLICATES
) -> list[Example]:
    """Rows whose text is new; `seen`, the labels of the texts, grows by them."""
    kept = []
    for row in rows:
        if (key := row.key) not in seen:
            seen[key] = row.label
            kept.append(row)
        else:
            dropped[CONFLICTS if reason == DUPLICATES and seen[key] != row.label else reason] += 1
    return kept


def _given_splits(
    task: Task, tables: Mapping[str, Table], seed: int, dropped: Counter[str]
) -> tuple[list[Example], list[Example], list[Example]]:
    assert isinstance(task.data, SplitRefs)
    seen: dict[str, Label | None] = {}
    given: dict[str, list[Example]] = {}
    # The test rows are kept whole: a duplicate is taken out of what trains, not out of what measures.
    for name, ref in (("test", task.data.test), ("dev", task.data.dev), ("train", task.data.train)):
        if ref is not None:
            try:
                rows = _examples(tables[ref.id], task, task.problem, "/task", dropped)
            except SpecError as error:
                raise SpecError(error.field, f"{name} set: {error.message}") from error
            before = " or ".join(given)
            given[name] = _unique(rows, seen, dropped)
            if rows and not given[name]:
                detail = f"each of its {len(rows)} rows repeats a {before} row, and is left out; give other rows"
                raise SpecError(f"/task/data/{name}/dataset", detail)
    rows = given["train"]
    if len(rows) < MIN_ROWS:
        detail = f"has {len(rows)} usable training rows; at least {MIN_ROWS} are needed"
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
    for name, part in given.items():
        if not part:
            raise SpecError(f"/task/data/{name}", "has no usable rows")
    return given["train"], given["dev"], given["test"]


def _held_out(
    rows: Sequence[Example], task: Task, seed: int, pointer: str
) -> tuple[list[Example], list[Example], list[Example]]:
    n, split = len(rows), task.split
    if n < MIN_ROWS:
        raise SpecError("/task/data/dataset", f"has {n} usable, distinct rows; at least {MIN_ROWS} are needed")
    train, dev = (s if isinstance(s, int) else max(1, round(s * n)) for s in (split.train or TRAIN, split.dev))
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
    return set().union(*(members(row.label) for row in rows))


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


def _check_labels(task: Task, labels: list[str], parts: Mapping[str, Sequence[Example]], where: str) -> None:
    given = isinstance(task.data, SplitRefs)
    if _kinds([row for part in parts.values() for row in part], task.problem) < 2:
        raise SpecError(
            "/task/label",
            f"has one class only ({', '.join(map(repr, labels[:5])) or 'no label'}): there is nothing to classify",
        )
    for name in ("dev", "test"):
        unseen = sorted(set(label_names(labels_of(parts[name]), task.problem, task.label)) - set(labels))
        if unseen:
            few = f"use more training rows ({len(parts['train'])} now, for at least {len(labels) + 1} labels)"
            mend = "add training rows that show it" if given else f"{few}, or merge rare classes"
            raise SpecError(
                f"/task/data/{name}" if given else "/task/split",
                f"the {name} rows hold labels that no training row shows: {', '.join(map(repr, unseen[:5]))}; {mend}",
            )
    if _kinds(parts["train"], task.problem) < 2:
        raise SpecError(where, f"the training rows show one class only ({labels[0]!r})")
    if task.metric == "entity_f1" and not is_iob2(labels):
        raise SpecError(
            "/task/metric",
            f"entity_f1 needs IOB2 tags (O, B-x, I-x), and there are others ({', '.join(map(repr, labels[:5]))}); "
            "ask for 'token_accuracy'",
        )


def _check_names(rows: Sequence[Example], problem: ProblemType, pointer: str) -> None:
    """Whether labels are names that repeat, and not texts, keys or numbers."""
    if problem == "regression" or not (labels := label_names(labels_of(rows), problem, "")):
        return
    says = "is it the right column?"
    if pointer.startswith("/sources"):
        says += " Leave 'label' out to use the text alone"
    elif problem == "single_label_classification" and all(map(_is_number, labels)):
        says = 'if these are amounts, ask for "problem_type": "regression"'
    if len(labels) > MAX_LABELS:
        raise SpecError(pointer, f"has {len(labels)} classes, and at most {MAX_LABELS} are supported; {says}")
    if problem == "single_label_classification" and 2 * len(labels) > len(rows) >= MIN_ROWS:
        raise SpecError(pointer, f"has {len(labels)} classes in {len(rows)} rows; {says}")
    longest = max(map(len, labels))
    if longest > MAX_LABEL_CHARS or sum(map(len, labels)) > MAX_LABELS_CHARS:
        raise SpecError(
            pointer,
            f"has classes of up to {longest:,} characters; is it the right column? At most {MAX_LABEL_CHARS} are "
            f"supported, and {MAX_LABELS_CHARS:,} in all",
        )


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
