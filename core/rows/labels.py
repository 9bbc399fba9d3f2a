"""What the cells of a table say, for each problem: labels, tags, numbers; and what a split holds in proportion.

Cells are read in two steps, each over all rows of a task, since one cell alone does not tell: `spell_labels` finds the
names that each row holds, however they are written, and `settle` renames them and sets apart what is no answer.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from itertools import chain
from statistics import pstdev
from typing import Any

from core.rows.cells import MISSING, Plain, each, opened, shown, spell
from core.rows.columns import Column
from core.spec.errors import Faults, SpecError
from core.spec.task import NUMBERED, ProblemType

Label = str | float | tuple[str, ...]  # a class; a number; the labels that apply, or the tag of each word
Names = tuple[str, ...]  # what a row holds, spelled

# Of tasks whose outputs are the same whatever the column.
OUTPUTS: Mapping[str, Names] = {
    "text_embedding": (),
    "text_retrieval": ("match",),
    "text_similarity": ("score",),
    "text_ranking": ("relevance",),
}
MAX_NUMBER = 1e30  # the head's weights are scaled by it, in float32
STRATA = 10  # of a regression's labels, by rank
UNLABELLED = "rows without label"
LEFT_OUT = "rows that 'label_map' leaves out"
YES, NO = frozenset(("1", "true", "yes", "y", "t")), frozenset(("0", "false", "no", "n", "f"))
BITS = re.compile(r"[01](?:[\s,;|]+[01])+")  # 0,1,0
DECIMAL_COMMA = re.compile(r"[+-]?\d+(?:,\d+)?")
DECIMAL_POINT = re.compile(r"[+-]?\d*\.\d+")
TAGGED = '"type": "token-classification"'
MULTI = '"problem_type": "multi_label_classification"'


@dataclass(frozen=True)
class Left:
    """Why a row has no answer, as it is counted; `name` is what was taken for none."""

    reason: str
    name: str | None = None


@dataclass
class Spelled:
    """Of each data set of one task, what each row holds; and what was understood of it."""

    rows: list[list[Names | Left]] = field(default_factory=list)
    written: dict[str, set[str]] = field(default_factory=dict)  # name -> how cells write it
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tagged: bool = False  # whether there is a list of words beside each cell
    named: bool = False  # whether numbers are places among names of classes: then -1 stands for none
    _known: dict[tuple[type, Any], str] = field(default_factory=dict)

    def name(self, item: Any, names: Sequence[str] | None = None) -> str:
        """A value's name, remembering how it was written."""
        if names is not None:
            return spell(item, names)
        if (key := (type(item), item)) not in self._known:
            self._known[key] = found = spell(item)
            self.written.setdefault(found, set()).add(item if isinstance(item, str) else str(item))
        return self._known[key]

    def one(self, item: Any, names: Sequence[str] | None) -> str:
        """As `name`; among numbers of classes -1 is none of them, and settled later."""
        return "-1" if names is not None and item == -1 else self.name(item, names)

    def names(self) -> Counter[str]:
        """How many rows hold each."""
        held = (row for rows in self.rows for row in rows if isinstance(row, tuple))
        return Counter(chain.from_iterable(map(set, held)))


def spell_labels(
    sets: Sequence[tuple[str, Mapping[str, Column]]],
    problem: ProblemType,
    several: bool,
    pointer: str,
    faults: Faults,
    tagged: bool = False,
) -> Spelled:
    """Of each data set (how a fault names it, and its columns of labels); `several`: each column is a label.

    `tagged`: the texts beside are lists, and lists of labels may be their tags. Faults name the row, counted from 1.
    """
    found = Spelled(named=any(column.names for _, columns in sets for column in columns.values()), tagged=tagged)
    if several:
        for prefix, columns in sets:
            found.rows.append(faults.attempt(partial(_of_columns, columns, pointer, prefix)) or [])
        return found
    each_set = [(prefix, next(iter(columns.values()))) for prefix, columns in sets]
    cells = [
        faults.attempt(partial(each, column.values, partial(opened, nested=column.nested), pointer, prefix))
        for prefix, column in each_set
    ]
    if any(values is None for values in cells):
        return found
    known = [values for values in cells if values is not None]
    read: Callable[..., Names | Left]
    if problem == "multi_label_classification":
        read = _form(found, known, each_set[0][1].names)
    else:
        one = _number_cell if problem in NUMBERED else _tags if problem == "token_classification" else _one
        read = partial(one, found)
    for values, (prefix, column) in zip(known, each_set, strict=True):
        rows = faults.attempt(partial(each, values, partial(read, names=column.names), pointer, prefix))
        found.rows.append(rows or [])
    if problem == "single_label_classification" and any(isinstance(cell, list) for cell in chain(*known)):
        found.notes.append("lists of one label are taken as that label")
    return found


def _one(found: Spelled, cell: Any, names: Sequence[str] | None) -> Names | Left:
    """The class of a cell, also in a list of one."""
    if isinstance(cell, list):
        if len(cell) > 1:
            mend = f"several labels apply, ask for {MULTI}"
            mend = f"each is the tag of a word, ask for {TAGGED}; where {mend}" if found.tagged else mend
            raise ValueError(f"{shown(cell)} is a list of {len(cell)}, and no class; where {mend}")
        cell = cell[0] if cell else None
    if cell is None:
        return Left(UNLABELLED)
    name = found.one(cell, names)
    return (name,) if name else Left(UNLABELLED)


def _number_cell(found: Spelled, cell: Any, names: Sequence[str] | None) -> Names | Left:
    """A number, as text: `label_map` may rename it."""
    if isinstance(cell, list) and len(cell) == 1:
        cell = cell[0]
    if isinstance(cell, bool | list):
        raise ValueError(f"{shown(cell)} is not a finite number; give one such as 3.5")
    text = "" if cell is None else spell(cell, names)
    return (text,) if text else Left(UNLABELLED)


def _tags(found: Spelled, cell: Any, names: Sequence[str] | None) -> Names | Left:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return Left(UNLABELLED)
    if not isinstance(cell, list):
        raise ValueError(f'{shown(cell)} is no list of tags; give one such as ["B-PER", "O"]')
    tags = []
    for i, item in enumerate(cell, 1):
        try:
            tags.append(found.name(item, names))
        except ValueError as error:
            raise ValueError(f"word {i}: {error}") from error
        if not tags[-1]:
            raise ValueError(f"word {i} has an empty tag")
    return tuple(tags)


def _form(found: Spelled, sets: Sequence[Sequence[Any]], names: Sequence[str] | None) -> Callable[..., Names | Left]:
    """How several labels are written, by all cells of a task; says so, and reads a cell."""
    texts = Counter(cell.strip() for cell in chain(*sets) if isinstance(cell, str) and cell.strip())
    blank = sum(isinstance(cell, str) and not cell.strip() for cell in chain(*sets))
    lists = [cell for cell in chain(*sets) if isinstance(cell, list) and cell]
    vectors = [re.findall("[01]", text) for text in texts] if all(map(BITS.fullmatch, texts)) else []
    as_bits = len({*map(len, vectors)}) == 1 and any(len({*vector}) < len(vector) for vector in vectors)
    width = _width([*lists, *(vectors if as_bits else [])], names)
    separator = None if as_bits else _separator(found, texts)
    plain = {cell for cell in chain(*sets) if isinstance(cell, Plain) and cell != ""} if names is None else set()
    alone = {spell(cell).casefold() for cell in plain}
    if alone and not lists and (alone <= {"0", "1"} or alone <= {"true", "false"}):
        found.warnings.append(
            "the only labels are " + " and ".join(sorted(alone)) + ": if the column says whether one label applies, "
            'give it as a list, "label": ["..."]'
        )
    if blank:
        found.notes.append(f"{blank} empty cells are taken as rows to which no label applies")
    if width:
        labels = list(names or (f"LABEL_{i}" for i in range(width)))
        found.notes.append(
            f"lists of {width} zeros and ones are taken as the labels {labels[0]} to {labels[-1]}"
            + ("" if names else f'; name them by "label_map": {{"{labels[0]}": "...", ...}}')
        )

    def read(cell: Any, names: Sequence[str] | None) -> Names | Left:
        if cell is None:
            return Left(UNLABELLED)
        if isinstance(cell, str):
            if not (text := cell.strip()):
                return ()
            parts = [part.strip() for part in text.split(separator)] if separator else [text]
            cell = re.findall("[01]", text) if as_bits else parts
            if separator and not cell[-1]:
                cell.pop()
        if not isinstance(cell, list):
            cell = [found.one(cell, names)]
            names = None
        if width and cell:
            if len(cell) != width or not {*map(spell, cell)} <= YES | NO:
                raise ValueError(f"{shown(cell)} is no list of {width} zeros and ones, as others are")
            return tuple(label for label, item in zip(labels, cell, strict=True) if spell(item) in YES)
        for item in cell:
            if isinstance(item, float) and not item.is_integer():
                raise ValueError(f"{shown(cell)} holds the number {item:g}, which names no label")
        held = {found.name(item, names) for item in cell}
        if "" in held:
            raise ValueError("names an empty label; write a|b, or a JSON array of names ([] for none)")
        return tuple(sorted(held))

    return read


def _width(lists: Sequence[Sequence[Any]], names: Sequence[str] | None) -> int:
    """How long lists are that say of each label whether it applies; 0 where lists are of names, or numbers of them."""
    spelled = {tuple(map(spell, cell)) for cell in lists}
    held = set(chain.from_iterable(spelled))
    if not held or not (held <= {"0", "1"} or held <= {"true", "false"}):
        return 0
    (length, _), *others = Counter(map(len, spelled)).most_common()
    repeats = any(len({*cell}) < len(cell) for cell in spelled)
    if names is not None:  # then numbers are places among these, which no list would hold twice
        return length if repeats and length == len(names) else 0
    return length if length > 1 and (repeats or not others) else 0


def _separator(found: Spelled, texts: Counter[str]) -> str | None:
    """What stands between labels: a bar; or a semicolon or comma, if labels repeat once it is taken so."""
    if any("|" in text for text in texts):
        return "|"
    for separator, name in ((";", "semicolon"), (",", "comma")):
        joined = [text for text in texts if separator in text]
        if not joined:
            continue
        parts = {part.strip() for text in joined for part in text.split(separator)} - {""}
        alone = {*texts} - {*joined}
        if len(parts | alone) < len(texts) or parts & alone:
            found.notes.append(f"labels such as '{joined[0][:60]}' are split at each {name}")
            return separator
        found.warnings.append(
            f"{sum(texts[text] for text in joined)} labels hold a {name} ('{joined[0][:60]}'), and are taken as one "
            "each, since none of their parts is a label elsewhere: write a|b where they are several"
        )
    alone = {*texts}
    joined = [text for text in texts if len(parts := {*re.split(r"[\s/+&]+", text)}) > 1 and parts <= alone]
    if joined:
        found.warnings.append(
            f"{sum(texts[text] for text in joined)} labels are made of others ('{joined[0][:60]}'), and are taken as "
            "one each: write a|b where they are several"
        )
    return None


def _of_columns(columns: Mapping[str, Column], pointer: str, prefix: str) -> list[Names | Left]:
    """Of several columns, each of one label, those that apply to each row."""

    def applies(cell: Any, names: Sequence[str] | None) -> bool | Left:
        value = opened(cell)
        text = "" if value is None or isinstance(value, list) else spell(value, names)
        if text.casefold() in YES | NO:
            return text.casefold() in YES
        if value is None or (isinstance(value, str) and not text):
            return Left(UNLABELLED)
        if text in MISSING or text == "-1":  # as in the test rows of Jigsaw's comments
            return no_answer(text)
        raise ValueError(f"{shown(cell)} does not say whether the label applies; give 0 or 1, or true or false")

    faults = Faults()
    said = [
        faults.attempt(partial(each, column.values, partial(applies, names=column.names), f"{pointer}/{i}", prefix))
        for i, column in enumerate(columns.values())
    ]
    faults.check()
    rows: list[Names | Left] = []
    for row in zip(*filter(None, said), strict=True):
        left = next((one for one in row if isinstance(one, Left)), None)
        rows.append(left or tuple(name for name, one in zip(columns, row, strict=True) if one))
    return rows


def no_answer(name: str) -> Left:
    """Of a row whose label stands for none."""
    return Left(f"rows whose label '{name}' is taken as no answer", name)


def truths_vary(names: Iterable[str]) -> bool:
    """Whether `True` or `TRUE` occurs beside `true`: then all are `true`; else they stay as they are."""
    found = {name for name in names if name.casefold() in ("true", "false")}
    return len({*map(str.casefold, found)}) < len(found)


def folded(name: str, truths: bool) -> str:
    """A name; where spellings of truth values vary, in that of JSON."""
    return name.casefold() if truths and name.casefold() in ("true", "false") else name


def settle(
    spelled: Spelled,
    problem: ProblemType,
    label_map: Mapping[str, str | None],
    truths: bool,
    prefixes: Sequence[str],
    pointer: str,
    faults: Faults,
) -> list[list[Label | Left]]:
    """The labels of each data set: `truths` of one spelling, then renamed by `label_map`, and no answers set apart."""
    names = Counter[str]()
    for name, count in spelled.names().items():
        names[folded(name, truths)] += count
    asked = {folded(spell(key), truths): value for key, value in label_map.items()}
    for key in label_map:
        if (plain := folded(spell(key), truths)) not in names:
            escaped = key.replace("~", "~0").replace("/", "~1")
            faults.found.append(SpecError(f"{pointer}/label_map/{escaped}", _unknown(plain, names)))
    missing = MISSING | ({"-100"} if problem == "token_classification" else {"NA"} if problem in NUMBERED else set())
    if spelled.named or (problem == "single_label_classification" and _stands_for_none(names)):
        missing |= {"-1"}
    numeric = _decimal_commas({*names} - {*asked} - missing) if problem in NUMBERED else None
    if numeric:
        spelled.notes.append("decimal commas are read as points")

    def label(row: Names | Left) -> Label | Left:
        if isinstance(row, Left):
            return row
        plain = [folded(name, truths) for name in row]
        none = next((i for i, name in enumerate(plain) if name in missing and name not in asked), None)
        if none is not None and problem == "token_classification":
            raise ValueError(f"word {none + 1} has the tag {plain[none]}, which stands for none; give each word a tag")
        if none is not None:
            return no_answer(plain[none])
        kept = [asked.get(name, name) for name in plain]
        if None in kept:
            return Left(LEFT_OUT)
        final = tuple(name for name in kept if name is not None)
        if problem in NUMBERED:
            return _number(final[0].replace(",", ".") if numeric else final[0])
        if problem == "token_classification":
            return final
        return tuple(sorted({*final})) if problem == "multi_label_classification" else final[0]

    found = []
    for rows, prefix in zip(spelled.rows, prefixes, strict=True):
        held = {name for row in rows if isinstance(row, tuple) for name in row}
        if held == {"-1"} and "-1" not in asked and len(names) > 1 and problem == "single_label_classification":
            rows = [no_answer("-1") if isinstance(row, tuple) else row for row in rows]  # as GLUE's test sets
        found.append(faults.attempt(partial(each, rows, label, f"{pointer}/label", prefix)) or [])
    return found


def _stands_for_none(names: Iterable[str]) -> bool:
    """Whether -1 lies beside three classes or more that are numbered from 0, as public data sets say "no answer"."""
    others = {*names} - {"-1"} - MISSING
    return len(others) > 2 and others == {str(i) for i in range(len(others))}


def _unknown(key: str, names: Iterable[str]) -> str:
    known = sorted(names)
    near = [name for name in known if name.casefold() == key.casefold()] or get_close_matches(key, known, 3, 0.6)
    said = ", ".join(f"'{name}'" for name in (near or known[:10])) + ", ..." * (not near and len(known) > 10)
    return f"no row holds '{key}'; " + (f"did you mean {said}?" if near else f"there are {said or 'no labels'}")


def _decimal_commas(names: Set[str]) -> bool:
    """Whether most are numbers, of which some have a decimal comma, none a point, and not all look like thousands."""
    numbers = {name for name in names if DECIMAL_COMMA.fullmatch(name)}
    parts = [name.partition(",")[2] for name in numbers if "," in name]
    mixed = len(numbers) * 2 <= len(names) or any(map(DECIMAL_POINT.fullmatch, names))
    return bool(parts) and not mixed and not all(len(digits) == 3 for digits in parts)


def _number(cell: str) -> float:
    try:
        value = math.nan if "_" in cell else float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        comma = ", with a point for a decimal comma" if DECIMAL_COMMA.fullmatch(cell) else ""
        raise ValueError(f"{shown(cell)} is not a finite number; give one such as 3.5{comma}")
    if abs(value) > MAX_NUMBER:
        raise ValueError(f"{value:g} is beyond {MAX_NUMBER:g}; give it in a larger unit")
    return value


def label_names(labels: Iterable[Label], problem: ProblemType, column: str = "") -> list[str]:
    """What the outputs of a model stand for: classes, labels or tags, sorted; of a regression its column."""
    if problem in OUTPUTS:
        return [*OUTPUTS[problem]]
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
    if problem in OUTPUTS:
        return [None] * len(labels)
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


ENTITY_TAG = re.compile(r"[BIESLU]-.+", re.DOTALL)  # also of BIOES, and BILOU: E or L ends an entity, S or U is one


def no_entity_tag(tags: Iterable[str]) -> list[str]:
    """Those that mark no entity: they are neither O nor such as B-PER, by IOB, BIOES or BILOU."""
    return [tag for tag in tags if tag != "O" and not ENTITY_TAG.fullmatch(tag)]


def members(label: Label | None) -> set[str]:
    """The names that a label holds: a class, labels or tags."""
    return {label} if isinstance(label, str) else set(label) if isinstance(label, tuple) else set()
