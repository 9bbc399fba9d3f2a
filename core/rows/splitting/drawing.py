"""Which rows train, and which are held out: drawn at random, in proportion to what they answer."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from itertools import chain

from core.rows.example import Example, labels_of
from core.rows.labels import OUTPUTS, Label, members, strata
from core.rows.splitting import searching
from core.rows.splitting.learnable import MIN_ROWS, check_names, names
from core.rows.splitting.left_out import unique, unpaired, why
from core.spec.errors import Faults, SpecError
from core.spec.task import ProblemType, TaskSpec

TRAIN = 0.6  # of a data set that is to be split


def given_splits(
    task: TaskSpec, sets: Mapping[str, list[Example]], seed: int, dropped: Counter[str]
) -> tuple[list[Example], list[Example], list[Example]]:
    """Train, dev and test rows of data sets of their own; what is not given is drawn from the train set.

    Raises SpecError for too few rows, SpecErrors where there are several faults.
    """
    seen: dict[str, Label | None] = {}
    pairs: dict[str, Label | None] = {}
    pair = partial(searching.pair, problem=task.problem)
    given: dict[str, list[Example]] = {}
    faults = Faults()
    # The test rows are kept whole: a duplicate is taken out of what trains, not out of what measures.
    for name in ("test", "dev", "train"):
        if (rows := sets.get(name)) is None:
            continue
        before = " or ".join(given)
        if task.problem in OUTPUTS:
            given[name] = unique(unpaired(rows, pairs, pair, dropped), seen, dropped)
            pairs |= {pair(row): row.label for row in given[name]}
        else:
            given[name] = unique(rows, seen, dropped)
        if not given[name] and (rows or name != "train"):
            repeats = f"each of its {len(rows)} rows repeats a {before} row, and is left out; give other rows"
            detail = repeats if rows else "has no usable rows" + why(dropped)
            faults.found.append(SpecError(f"/task/data/{name}/dataset", detail))
    faults.check()
    rows = given["train"]
    if len(rows) < MIN_ROWS:
        detail = f"has {len(rows)} usable training rows; at least {MIN_ROWS} are needed" + why(dropped)
        raise SpecError("/task/data/train/dataset", detail)
    check_names(rows, task.problem, "/task/label")
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


def held_out(
    rows: Sequence[Example], task: TaskSpec, seed: int, dropped: Counter[str], notes: list[str]
) -> tuple[list[Example], list[Example], list[Example]]:
    """Train, dev and test rows drawn from one data set of distinct rows. Raises SpecError where it has too few."""
    n, split, pointer = len(rows), task.split, "/task/split"
    if n < MIN_ROWS:
        detail = f"has {n} usable, distinct rows; at least {MIN_ROWS} are needed" + why(dropped)
        raise SpecError("/task/data/dataset", detail)
    train, dev = (s if isinstance(s, int) else max(1, round(s * n)) for s in (split.train or TRAIN, split.dev))
    few = split.train is None and split.test is None and train < len(names(rows))
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
    if names([*shown, *chain.from_iterable(parts)]) <= names(drawn):
        return [*parts, drawn]
    aside = _one_of_each(rows, seed)
    left = len(rows) - sum(held) if train is None else train
    if len(aside) > left:
        return [*parts, drawn]
    apart = set(map(id, aside))
    *parts, rest = _stratified([row for row in rows if id(row) not in apart], problem, held, seed)
    return [*parts, aside + _stratified(rest, problem, [left - len(aside)], seed)[0]]


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
