"""Rows of texts that are compared: which belong together, what a search or a ranking learns from, and what it cannot.

Labels of `text_retrieval` are the identities of a row's texts, of `text_ranking` a query's identity and the relevance
of the document: texts that are spelled alike are one.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

from core.rows.example import Example, spelling
from core.rows.labels import numbers
from core.spec.errors import SpecError
from core.spec.task import PAIRED, ProblemType

OTHERS = 9  # documents of other queries beside a query's own, where a ranking is given pairs alone
MOST_TEXTS = 200_000  # of test rows, whose vectors are held at once
LARGEST = 0.5  # of the rows: what belongs together, by queries and documents, beyond which queries alone count
LEAST = 0.5  # of the rows that a part is to have
FEW = 50  # documents to find one among, or queries to rank for


def identity(text: str) -> str:
    """15 hexadecimal digits, the same for texts that are spelled alike."""
    return hashlib.sha256(spelling(text).encode("utf-8", "surrogatepass")).hexdigest()[:15]


def pair(row: Example, problem: ProblemType) -> str:
    """What no two sets may share: two texts with a score in any order, a query's document whatever stands beside it."""
    texts = [*map(spelling, row.text[:2])]
    return "\x1f".join(sorted(texts) if problem == "text_similarity" else texts)


def answered(rows: Sequence[Example], problem: ProblemType, seed: int) -> list[Example]:
    """Rows of one part with the labels that their task learns from; of pairs to rank, with other documents beside."""
    if problem == "text_retrieval":
        return [Example(row.text, tuple(map(identity, row.text))) for row in rows]
    if problem != "text_ranking":
        return [*rows]
    if all(isinstance(row.label, float) for row in rows):
        return [Example(row.text, (identity(row.text[0]), repr(row.label))) for row in rows]
    rng = random.Random(seed)
    documents = {identity(row.text[1]): row.text[1] for row in rows}
    names = sorted(documents)
    own: dict[str, set[str]] = {}
    for row in rows:
        own.setdefault(identity(row.text[0]), set()).add(identity(row.text[1]))
    found: dict[tuple[str, str], Example] = {}  # by query and document: each once
    for row in rows:
        text, document, *others = row.text
        query = identity(text)
        found[query, identity(document)] = Example((text, document), (query, "1.0"))
        beside = {name: other for other in others if (name := identity(other)) not in own[query]}
        drawn = rng.sample(names, min(len(names), OTHERS + len(own[query])))
        more = [name for name in drawn if name not in own[query]][: max(0, OTHERS - len(beside))]
        for name, other in {**beside, **{name: documents[name] for name in more}}.items():
            found.setdefault((query, name), Example((text, other), (query, "0.0")))
    return [*found.values()]


def parted(rows: Sequence[Example], held: Sequence[int], train: int | None, seed: int) -> list[list[Example]]:
    """Parts of about `held` rows each, then `train` of what is left, or all: no query or document is in two of them.

    Where nearly all rows hang together by their documents, queries alone are kept apart. A group that does not fit into
    a part is left for the next; SpecError where a part would come to less than `LEAST` of what it is to have.
    """
    counts = [*held, *([] if train is None else [train])]
    if not counts:
        return [[*rows]]
    for whole in (True, False):
        groups = _groups(rows, whole)
        if whole and len(groups[0]) > LARGEST * len(rows):
            continue
        parts, left = _filled(groups, counts, seed)
        if all(len(part) >= LEAST * count for part, count in zip(parts, counts, strict=True)):
            return parts if train is not None else [*parts, left]
    raise SpecError(
        "/task/split",
        f"the rows are of {len(groups):,} queries, one with {len(groups[0]):,} rows, and those of a query stay "
        f"together: no parts of {', '.join(f'{count:,}' for count in counts)} rows can be made of them; give rows of "
        "more queries, other sizes, or a data set for each part",
    )


def _filled(
    groups: Sequence[Sequence[Example]], counts: Sequence[int], seed: int
) -> tuple[list[list[Example]], list[Example]]:
    """Parts of at most `counts` rows, of whole groups, and what is left."""
    left = random.Random(seed).sample(groups, len(groups))
    parts = []
    for count in counts:
        part: list[Example] = []
        others = []
        for group in left:
            if len(part) + len(group) <= count:
                part += group
            else:
                others.append(group)
        left = others
        parts.append(part)
    return parts, [*chain.from_iterable(left)]


def _groups(rows: Sequence[Example], whole: bool) -> list[list[Example]]:
    """Rows that share a text, the largest group first; by their first texts alone unless `whole`."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for row in rows:
        first, *others = map(spelling, row.text if whole else row.text[:1])
        for other in others:
            parent[root(other)] = root(first)
    found: dict[str, list[Example]] = {}
    for row in rows:
        found.setdefault(root(spelling(row.text[0])), []).append(row)
    return sorted(found.values(), key=len, reverse=True)


def require_apart(rows: Sequence[Example], problem: ProblemType, pointer: str) -> None:
    """Raises SpecError where the texts, or the scores, of a target or source leave nothing to tell apart."""
    if problem in PAIRED:
        for i, what in enumerate(("query", "document")):
            if len({spelling(row.text[i]) for row in rows}) < 2:
                raise SpecError(f"{pointer}/text/{i}", f"holds one {what} only: there is nothing to search among")
    if problem != "text_embedding":
        alike = sum(spelling(row.text[0]) == spelling(row.text[1]) for row in rows)
        if alike > 0.9 * len(rows):
            raise SpecError(
                f"{pointer}/text/1", f"repeats '{pointer}/text/0' in {alike:,} of {len(rows):,} rows: name another"
            )
    scores = numbers(row.label for row in rows if row.label is not None)
    if scores and len({*scores}) < 2:
        raise SpecError(
            f"{pointer}/label",
            f"shows one value only ({scores[0]:g}): there is nothing to learn from it; leave 'label' out where the "
            "texts of each row belong together",
        )
    if problem == "text_ranking" and scores and min(scores) < 0:
        raise SpecError(
            f"{pointer}/label", f"holds {min(scores):g}: relevance is 0 (not relevant) or more; add {-min(scores):g}"
        )


def require_measurable(test: Sequence[Example], problem: ProblemType) -> None:
    """Raises SpecError where the test rows, with their labels, cannot tell one model from another, or are too many."""
    texts = sum(len(row.text) for row in test)
    if problem != "text_ranking" and texts > MOST_TEXTS:
        raise SpecError(
            "/task/split",
            f"asks to measure on {texts:,} texts, whose vectors are held at once; give at most {MOST_TEXTS:,}, by a "
            "whole number as 'test'",
        )
    if problem == "text_retrieval" and len({row.label[1] for row in test if isinstance(row.label, tuple)}) < 2:
        raise SpecError("/task/split", "the test rows hold one document only: give more test rows")
    if problem == "text_ranking" and not _mixed(test):
        raise SpecError(
            "/task/split",
            "no query of the test rows has documents of different relevance: give rows of relevance 0, too, or leave "
            "'label' out, so that documents of other queries are ranked beside each one's own",
        )
    if problem == "text_similarity" and len({row.label for row in test}) < 2:
        raise SpecError("/task/split", "the test rows show one score only: give more test rows")


def _mixed(rows: Iterable[Example]) -> int:
    """How many queries have documents of different relevance."""
    said: dict[str, set[str]] = {}
    for row in rows:
        if isinstance(row.label, tuple):
            said.setdefault(row.label[0], set()).add(row.label[1])
    return sum(len(values) > 1 for values in said.values())


def understood(parts: Sequence[Sequence[Example]], problem: ProblemType) -> str:
    """What rows are taken as, in a sentence."""
    rows = [*chain.from_iterable(parts)]
    if problem == "text_embedding":
        return f"{len(rows):,} texts without labels: what the model's own vectors say of them is to be kept"
    queries, documents = ({spelling(row.text[i]) for row in rows} for i in (0, 1))
    if problem == "text_similarity":
        return f"{len(rows):,} pairs of texts with a score, of which the order counts"
    said = f"{len(rows):,} rows of {len(queries):,} queries and {len(documents):,} documents"
    if more := len(rows[0].text) - 2:
        said += f", with {more} more that do not belong to the query"
    if problem == "text_ranking" and rows[0].label is None:
        said += f"; each query's own is ranked beside {max(OTHERS, more)} others of its part, as far as it has them"
    return said


def doubtful(train: Sequence[Example], test: Sequence[Example], problem: ProblemType) -> list[str]:
    """What to know of such rows before their numbers are believed: one sentence each."""
    found = []
    if problem != "text_embedding":
        for i, what in enumerate(("query", "document") if problem in PAIRED else ("first text", "second text")):
            known = {spelling(row.text[i]) for row in train}
            if count := sum(spelling(row.text[i]) in known for row in test if _belongs(row)):
                found.append(f"{count:,} of the test rows have a {what} that training rows have, too")
    if problem == "text_retrieval" and (count := len({name for row in test for name in _documents(row)})) < FEW:
        found.append(f"{count} test documents are searched: to find one among so few says little; give more test rows")
    if problem == "text_ranking":
        queries = Counter(row.label[0] for row in test if isinstance(row.label, tuple))
        if (count := _mixed(test)) < FEW:
            found.append(f"{count} test queries are ranked: so few tell little; give more test rows")
        if alike := len(queries) - count:
            found.append(
                f"{alike:,} of {len(queries):,} test queries have documents of one relevance only, and do not count"
            )
    return found


def _documents(row: Example) -> tuple[str, ...]:
    """The identities of a row's documents."""
    return row.label[1:] if isinstance(row.label, tuple) else ()


def _belongs(row: Example) -> bool:
    return not isinstance(row.label, tuple) or row.label[-1] != "0.0"
