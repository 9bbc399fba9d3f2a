"""From tables of strings to honest splits: the same arithmetic at the web edge (to refuse) and in the job (to use).

Duplicates are texts that are equal up to case and white space. They are removed within and across splits, and
source rows that repeat any target row are removed too, so that no test text is ever trained on.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core.spec.job import JobSpec, Source, Split, SplitRefs, Task
from core.spec.problems import SpecError

Table = Mapping[str, Sequence[str | None]]  # column -> values

MIN_ROWS = 10


@dataclass(frozen=True)
class Example:
    """One row: one text or a pair, and its label where it has one."""

    text: tuple[str, ...]
    label: str | None

    @property
    def key(self) -> str:
        """What makes two rows duplicates of each other."""
        return "\x1f".join(" ".join(part.casefold().split()) for part in self.text)


@dataclass
class Splits:
    """What a job trains and measures on. `dropped` counts rows left out, by reason."""

    labels: list[str]
    train: list[Example]
    dev: list[Example]
    test: list[Example]
    sources: list[list[Example]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def prepare(spec: JobSpec, tables: Mapping[str, Table]) -> Splits:
    """Read, check, deduplicate and split. `tables` maps data set id -> table.

    Raises SpecError naming the field for a missing column, too few rows, one class only, or a label that the
    training rows never show.
    """
    dropped: Counter[str] = Counter()
    task = spec.task
    if isinstance(task.data, SplitRefs):
        parts = _given_splits(task, tables, spec.train.seed, dropped)
        where = "/task/data/train/dataset"
    else:
        rows = _examples(tables[task.data.dataset], task, "/task", dropped)
        unique = _unique(rows, set(), dropped, "duplicate rows in the target")
        parts = _held_out(unique, task.split, spec.train.seed, "/task/split")
        where = "/task/data/dataset"
    train, dev, test = parts
    labels = sorted({str(row.label) for row in train})
    _check_labels(labels, {"train": train, "dev": dev, "test": test}, where, isinstance(task.data, SplitRefs))

    seen = {row.key for part in parts for row in part}
    sources = []
    for i, source in enumerate(spec.sources):
        rows = _examples(tables[source.data.dataset], source, f"/sources/{i}", dropped)
        kept = _unique(rows, seen, dropped, "source rows that repeat a target row or an earlier source row")
        if len(kept) < MIN_ROWS:
            raise SpecError(
                f"/sources/{i}/data/dataset",
                f"has {len(kept)} usable rows that do not repeat the target; at least {MIN_ROWS} are needed",
            )
        if source.label is not None and len({row.label for row in kept}) < 2:
            raise SpecError(f"/sources/{i}/label", "has one class only; leave 'label' out to use the text alone")
        sources.append(kept)
    return Splits(labels, train, dev, test, sources, dropped)


def _examples(table: Table, part: Task | Source, pointer: str, dropped: Counter[str]) -> list[Example]:
    for i, name in enumerate(part.text):
        _require(table, name, f"{pointer}/text/{i}")
    if part.label is not None:
        _require(table, part.label, f"{pointer}/label")
    texts = zip(*(table[name] for name in part.text), strict=True)
    labels = table[part.label] if part.label is not None else [None] * len(table[part.text[0]])
    rows = []
    for text, label in zip(texts, labels, strict=True):
        full = tuple(cell for cell in text if cell is not None and cell.strip())
        label = label.strip() if label is not None else None
        if len(full) < len(part.text):
            dropped["rows without text"] += 1
        elif part.label is not None and not label:
            dropped["rows without label"] += 1
        else:
            rows.append(Example(full, label))
    return rows


def _require(table: Table, name: str, pointer: str) -> None:
    if name not in table:
        raise SpecError(pointer, f"the data set has no column '{name}'; its columns: {', '.join(table)}")


def _unique(rows: Sequence[Example], seen: set[str], dropped: Counter[str], reason: str) -> list[Example]:
    """Rows whose text is new; `seen` grows by them."""
    kept = []
    for row in rows:
        if row.key in seen:
            dropped[reason] += 1
        else:
            seen.add(row.key)
            kept.append(row)
    return kept


def _given_splits(
    task: Task, tables: Mapping[str, Table], seed: int, dropped: Counter[str]
) -> tuple[list[Example], list[Example], list[Example]]:
    assert isinstance(task.data, SplitRefs)
    seen: set[str] = set()
    given: dict[str, list[Example]] = {}
    # The test rows are kept whole: a duplicate is taken out of what trains, not out of what measures.
    for name, ref in (("test", task.data.test), ("dev", task.data.dev), ("train", task.data.train)):
        if ref is not None:
            rows = _examples(tables[ref.dataset], task, "/task", dropped)
            given[name] = _unique(rows, seen, dropped, "duplicate rows in the target")
    missing = [name for name in ("dev", "test") if name not in given]
    if missing:
        rows = given["train"]
        share = {name: getattr(task.split, name) or 0.2 for name in missing}
        counts = {n: s if isinstance(s, int) else round(s * len(rows)) for n, s in share.items()}
        held = _stratified(rows, [counts.get("dev", 0), counts.get("test", 0)], seed)
        for name, part in zip(("dev", "test"), held, strict=False):
            if name in missing:
                given[name] = part
        given["train"] = held[2]
    for name, part in given.items():
        if not part:
            raise SpecError(f"/task/data/{name}", "has no usable rows")
    if len(given["train"]) < MIN_ROWS:
        raise SpecError(
            "/task/data/train/dataset",
            f"has {len(given['train'])} usable training rows; at least {MIN_ROWS} are needed",
        )
    return given["train"], given["dev"], given["test"]


def _held_out(
    rows: Sequence[Example], split: Split, seed: int, pointer: str
) -> tuple[list[Example], list[Example], list[Example]]:
    n = len(rows)
    if n < MIN_ROWS:
        raise SpecError("/task/data/dataset", f"has {n} usable, distinct rows; at least {MIN_ROWS} are needed")
    train, dev = (s if isinstance(s, int) else max(1, round(s * n)) for s in (split.train, split.dev))
    test = n - train - dev if split.test is None else split.test
    test = test if isinstance(test, int) else min(max(1, round(test * n)), max(1, n - train - dev))
    if train + dev + test > n or test < 1:
        raise SpecError(
            pointer,
            f"asks for {train} train + {dev} dev + {max(test, 1)} test rows, but the data set has {n} distinct ones",
        )
    dev_rows, test_rows, rest = _stratified(rows, [dev, test], seed)
    return _stratified(rest, [train], seed)[0], dev_rows, test_rows


def _stratified(rows: Sequence[Example], counts: Sequence[int], seed: int) -> list[list[Example]]:
    """Draw parts of exactly `counts` rows, each with the classes in proportion (largest remainder), and the rest."""
    by_label: dict[str | None, list[Example]] = {}
    for row in rows:
        by_label.setdefault(row.label, []).append(row)
    rng = random.Random(seed)
    for label in sorted(by_label, key=str):
        rng.shuffle(by_label[label])
    parts = []
    for count in counts:
        left = sum(map(len, by_label.values()))
        if count > left:
            count = left
        exact = {label: count * len(group) / left for label, group in by_label.items()} if left else {}
        take = {label: int(share) for label, share in exact.items()}
        by_remainder = sorted(exact, key=lambda label: (take[label] - exact[label], str(label)))
        for label in by_remainder[: count - sum(take.values())]:
            take[label] += 1
        part = []
        for label, group in by_label.items():
            part += group[: take[label]]
            by_label[label] = group[take[label] :]
        rng.shuffle(part)
        parts.append(part)
    rest = [row for group in by_label.values() for row in group]
    rng.shuffle(rest)
    return [*parts, rest]


def _check_labels(labels: list[str], parts: Mapping[str, Sequence[Example]], where: str, given: bool) -> None:
    everything = Counter(str(row.label) for part in parts.values() for row in part)
    if len(everything) < 2:
        raise SpecError("/task/label", f"has one class only ({labels[0]!r}): there is nothing to classify")
    for name in ("dev", "test"):
        unseen = sorted({str(row.label) for row in parts[name]} - set(labels))
        if unseen:
            mend = "add training rows that show it" if given else "use more training rows, or merge rare classes"
            raise SpecError(
                f"/task/data/{name}" if given else "/task/split",
                f"the {name} rows hold labels that no training row shows: {', '.join(map(repr, unseen[:5]))}; {mend}",
            )
    if len(labels) < 2:
        raise SpecError(where, f"the training rows show one class only ({labels[0]!r})")
    if len(labels) > 1000:
        raise SpecError("/task/label", f"has {len(labels)} classes; is it the right column? At most 1000 are supported")
