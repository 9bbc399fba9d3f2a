"""Rows of texts that are compared: honest parts, documents that do not belong, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from pydantic import ValidationError

from core.rows.example import Example, spelling
from core.rows.splitting import searching
from core.rows.splitting.splits import Splits, prepare
from core.rows.survey import of
from core.spec.errors import SpecError, SpecErrors
from core.spec.job import JobSpec
from tests.draws import draws
from tests.tables import columns

A, B = "ds_" + "a" * 32, "ds_" + "b" * 32
QUERIES, DOCUMENTS = [f"query number {i}" for i in range(100)], [f"document {i}" for i in range(100)]
SCORES = [i / 10 for i in range(100)]
WRONG = [f"other {i}" for i in range(100)]
SIMILARITY: dict[str, Any] = {"type": "sentence-similarity"}
RANKING: dict[str, Any] = {"type": "text-ranking"}
PAIRS: dict[str, Any] = {"text": ["q", "d"]}
SCORED: dict[str, Any] = PAIRS | {"label": "s"}


def spec_of(task: dict[str, Any], sources: Sequence[dict[str, Any]] = (), **rest: Any) -> JobSpec:
    """A job on data set A, with sources on B."""
    body = {"model": "m", "task": {"data": {"dataset": A}} | task, "budget": {"params": 0.5}}
    return JobSpec.model_validate(body | {"sources": [{"data": {"dataset": B}} | one for one in sources]} | rest)


def split(task: dict[str, Any], source: dict[str, Any] | None = None, **cells: Any) -> Splits:
    """Prepared; and it can be talked of."""
    spec = spec_of(task, [source["asked"]] if source else [])
    tables = {A: columns(**cells)} | ({B: columns(**source["cells"])} if source else {})
    splits = prepare(spec, tables)
    assert json.dumps(of(splits, spec, 128).__dict__)
    return splits


def texts(rows: Sequence[Example], place: int) -> set[str]:
    return {spelling(row.text[place]) for row in rows}


@draws(40)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=60, max_size=150), seed=st.integers(0, 5)
)
def test_no_query_is_in_two_parts_and_no_document_where_that_can_be(pairs: list[tuple[int, int]], seed: int) -> None:
    rows = [Example((f"query {a}", f"document {b}"), None) for a, b in dict.fromkeys(pairs)]
    try:
        parts = searching.parted(rows, [10, 10], 30, seed)
    except SpecError as error:
        assert "of a query stay together" in error.message
        return
    assert [len(part) for part in parts] <= [10, 10, 30] and all(
        2 * len(part) >= count for part, count in zip(parts, (10, 10, 30), strict=True)
    )
    whole = searching._groups(rows, whole=True)
    for i, one in enumerate(parts):
        for other in parts[i + 1 :]:
            assert not texts(one, 0) & texts(other, 0)
            if len(whole) > 10 and len(whole[0]) < 5:
                assert not texts(one, 1) & texts(other, 1)
    assert parts == searching.parted(rows, [10, 10], 30, seed)


def test_rows_that_share_a_text_stay_together() -> None:
    """However it is spelled, and through others."""
    chains = [(f"Query {i // 5}", f"document {i // 5}.{i % 5}") for i in range(100)]
    chains[1] = ("QUERY  0", "document 0.1")
    splits = split(SIMILARITY | PAIRS, q=[q for q, _ in chains], d=[d for _, d in chains])
    parts = (splits.train, splits.dev, splits.test)
    assert [len(part) for part in parts] == [60, 20, 20]
    assert all(len(texts(part, 0)) == len(part) / 5 for part in parts)
    shared = [(f"query {i}", f"document {i // 2}") for i in range(100)]
    splits = split(SIMILARITY | PAIRS, q=[q for q, _ in shared], d=[d for _, d in shared])
    assert not texts(splits.train, 1) & texts([*splits.dev, *splits.test], 1)


def test_where_few_documents_serve_all_queries_that_is_said() -> None:
    splits = split(SIMILARITY | PAIRS, q=QUERIES, d=[f"answer {i % 4}" for i in range(100)])
    assert len(splits.test) == 20
    assert "20 of the test rows have a document that training rows have, too" in splits.warnings
    assert any(warning.startswith("4 test documents are searched") for warning in splits.warnings)

    scored = split(SIMILARITY | SCORED, q=QUERIES, d=[f"answer {i % 4}" for i in range(100)], s=SCORES)
    assert scored.warnings == ["20 of the test rows have a second text that training rows have, too"]


def given_split(task: dict[str, Any], train: dict[str, list[Any]], test: dict[str, list[Any]]) -> Splits:
    """Of a train and a test set of their own."""
    spec = spec_of(task | {"data": {"train": {"dataset": A}, "test": {"dataset": B}}})
    return prepare(spec, {A: columns(**train), B: columns(**test)})


def test_a_pair_that_measures_does_not_train_in_another_order_either() -> None:
    test = {"q": QUERIES[:20], "d": DOCUMENTS[:20], "s": SCORES[:20]}
    train = {"q": [*DOCUMENTS[:10], *QUERIES[20:]], "d": [*QUERIES[:10], *DOCUMENTS[20:]], "s": SCORES[:90]}
    splits = given_split(SIMILARITY | SCORED, train | {"s": [*SCORES[:9], 7.5, *SCORES[10:90]]}, test)
    assert len(splits.train) + len(splits.dev) == 80 and len(splits.test) == 20
    assert splits.dropped == {
        "duplicate rows in the target": 9,
        "rows of the target that repeat a text with another label": 1,
    }
    pairs = given_split(SIMILARITY | PAIRS, train, test)
    assert len(pairs.train) + len(pairs.dev) == 90 and not pairs.dropped


@pytest.mark.parametrize("task", [SIMILARITY, RANKING])
def test_a_document_that_measures_does_not_train_beside_other_negatives(task: dict[str, Any]) -> None:
    train = {"q": [*QUERIES, *QUERIES[:5]], "d": [*DOCUMENTS, *WRONG[:5]], "w": [f"wrong {i}" for i in range(105)]}
    test = {"q": [q.upper() for q in QUERIES[:20]], "d": DOCUMENTS[:20], "w": WRONG[:20]}
    splits = given_split(task | {"text": [*"qdw"]}, train, test)
    assert splits.dropped == {"duplicate rows in the target": 20}
    assert not {row.text[:2] for row in splits.train} & set(zip(QUERIES[:20], DOCUMENTS[:20], strict=True))
    assert any(w.endswith("of the test rows have a query that training rows have, too") for w in splits.warnings)
    train |= {"q": [f"my {cell}" for cell in train["q"][:100]] * 2, "d": train["d"][:100] * 2}
    within = given_split(task | {"text": [*"qdw"]}, train | {"w": [f"no {i}" for i in range(200)]}, test)
    assert not within.dropped


def test_a_train_set_of_its_own_keeps_its_order() -> None:
    other = "ds_" + "c" * 32
    data = {"train": {"dataset": A}, "dev": {"dataset": B}, "test": {"dataset": other}}
    spec = spec_of(SIMILARITY | PAIRS | {"data": data})
    rows = {"q": [f"held {i}" for i in range(20)], "d": [f"back {i}" for i in range(20)]}
    more = {name: [f"{cell} again" for cell in cells] for name, cells in rows.items()}
    splits = prepare(spec, {A: columns(q=QUERIES, d=DOCUMENTS), B: columns(**rows), other: columns(**more)})
    assert [row.text[0] for row in splits.train] == QUERIES
    assert (len(splits.dev), len(splits.test)) == (20, 20)


@pytest.mark.parametrize("others", [0, 1, 12])
def test_what_a_ranking_learns_from_is_of_the_same_part(others: int) -> None:
    wrong = {f"n{i}": [f"wrong {i} {j}" for j in range(100)] for i in range(min(others, 6))}
    splits = split(RANKING | {"text": ["q", "d", *wrong]}, q=QUERIES, d=DOCUMENTS, **wrong)
    held: list[set[str]] = []
    for part in (splits.train, splits.dev, splits.test):
        good = {row.text for row in part if row.label[1] == "1.0"}  # type: ignore[index]
        documents = {document for _, document in good}
        rows = [row for row in part if row.label[1] == "0.0"]  # type: ignore[index]
        assert len({row.text for row in part}) == len(part) == 10 * len(good)
        for query, document in good:
            beside = {row.text[1] for row in rows if row.text[0] == query}
            number = query.split()[-1]
            given_others = {f"wrong {i} {number}" for i in range(min(others, 6))}
            assert document not in beside and given_others <= beside <= documents | given_others
        held.append(documents)
    assert not held[0] & held[1] and not held[1] & held[2] and not held[0] & held[2]
    assert "; each query's own is ranked beside 9 others of its part" in splits.notes[0]


def test_a_query_is_never_ranked_against_what_belongs_to_it() -> None:
    """However query and document are spelled, and whoever says that it does not."""
    rows = [Example((f"Query {i // 3}" if i % 3 else f"QUERY {i // 3}", f"doc {i}"), None) for i in range(30)]
    rows += [Example((f"query {i}", f"DOC {3 * i}", f"Doc {3 * i + 1}"), None) for i in range(10)]
    found = searching.answered(rows, "text_ranking", 0)
    said: dict[tuple[str, str], set[str]] = {}
    for row in found:
        said.setdefault((spelling(row.text[0]), spelling(row.text[1])), set()).add(row.label[1])  # type: ignore[index]
    assert all(len(labels) == 1 for labels in said.values()) and len(said) == len(found)
    for i in range(30):
        assert said[f"query{i // 3}", f"doc{i}"] == {"1.0"}
    assert len({row.label[0] for row in found}) == 10  # type: ignore[index]


def test_few_documents_are_all_beside() -> None:
    rows = [Example((f"query {i}", f"document {i % 3}"), None) for i in range(12)]
    found = searching.answered(rows, "text_ranking", 0)
    assert len(found) == 36 and sum(row.label[1] == "1.0" for row in found) == 12  # type: ignore[index]


def test_relevance_is_kept_as_it_is() -> None:
    cells = [float(i % 4) for i in range(100)]
    splits = split(RANKING | SCORED, q=[f"query {i // 4}" for i in range(100)], d=DOCUMENTS, s=cells)
    rows = [*splits.train, *splits.dev, *splits.test]
    assert {row.text[1]: row.label[1] for row in rows} == {  # type: ignore[index]
        document: repr(cell) for document, cell in zip(DOCUMENTS, cells, strict=True)
    }
    assert splits.warnings == ["5 test queries are ranked: so few tell little; give more test rows"]
    assert splits.labels == ["relevance"]


def test_what_has_no_text_is_counted() -> None:
    gone = [None, "", "  ", "\t"]
    alone = split(SIMILARITY | {"text": ["q"]}, q=[*QUERIES, *gone])
    assert alone.dropped == {"rows without text": 4} and len(alone.train) == 60
    assert "left out: rows without text (4)" in alone.notes
    pairs = split(SIMILARITY | PAIRS, q=[*QUERIES, *gone], d=[*gone, *DOCUMENTS])
    assert pairs.dropped == {"rows without text": 8}
    scored = split(SIMILARITY | SCORED, q=QUERIES, d=DOCUMENTS, s=[None, float("nan"), "", *map(str, SCORES[3:])])
    assert scored.dropped == {"rows without label": 3}


def test_what_is_there_twice_counts_once() -> None:
    pairs = split(SIMILARITY | PAIRS, q=[*QUERIES, "Query  NUMBER 1"], d=[*DOCUMENTS, "document 1"])
    assert pairs.dropped == {"duplicate rows in the target": 1}
    scored = split(SIMILARITY | SCORED, q=[*QUERIES, QUERIES[0]], d=[*DOCUMENTS, DOCUMENTS[0]], s=[*SCORES, 9.5])
    assert scored.dropped == {"rows of the target that repeat a text with another label": 1}


@pytest.mark.parametrize(
    ("task", "labels", "note"),
    [
        ({"text": ["q"]}, [], "100 texts without labels: what the model's own vectors say of them is to be kept"),
        (PAIRS, ["match"], "100 rows of 100 queries and 100 documents"),
        ({"text": [*"qdw"]}, ["match"], "100 rows of 100 queries and 100 documents, with 1 more that do not belong"),
        (SCORED, ["score"], "100 pairs of texts with a score, of which the order counts"),
    ],
)
def test_what_was_understood_is_said(task: dict[str, Any], labels: list[str], note: str) -> None:
    splits = split(SIMILARITY | task, q=QUERIES, d=DOCUMENTS, w=WRONG, s=SCORES)
    assert splits.notes[0].startswith(note)
    assert splits.labels == labels


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "pairs that are alike": (
        SIMILARITY | PAIRS,
        {"d": QUERIES},
        "/task/text/1",
        "repeats '/task/text/0' in 100 of 100",
    ),
    "one document": (SIMILARITY | PAIRS, {"d": ["same"] * 100}, "/task/text/1", "holds one document only"),
    "one query": (RANKING | PAIRS, {"q": ["Same", "same "] * 50}, "/task/text/0", "holds one query only"),
    "one score": (SIMILARITY | SCORED, {"s": [1] * 100}, "/task/label", "shows one value only (1)"),
    "one relevance": (RANKING | SCORED, {"s": [1] * 100}, "/task/label", "leave 'label' out where the texts of each"),
    "negative relevance": (RANKING | SCORED, {"s": [-2, *SCORES[1:]]}, "/task/label", "holds -2: relevance is 0"),
    "no query with both": (
        RANKING | SCORED,
        {"s": [i % 2 for i in range(100)]},
        "/task/split",
        "give rows of relevance 0, too, or leave 'label' out",
    ),
    "words for scores": (SIMILARITY | SCORED, {"s": ["yes"] * 100}, "/task/label", "row 1: 'yes' is not a finite"),
    "no number": (SIMILARITY | SCORED, {"s": [float("inf"), *SCORES[1:]]}, "/task/label", "is not a finite number"),
    "two queries": (
        SIMILARITY | PAIRS,
        {"q": [f"query {i % 2}" for i in range(100)]},
        "/task/split",
        "of 2 queries, one with 50 rows, and those of a query stay together: no parts of 20, 20, 60",
    ),
    "few rows": (
        SIMILARITY | PAIRS,
        {"q": QUERIES[:5], "d": DOCUMENTS[:5], "s": []},
        "/task/data/dataset",
        "has 5 usable",
    ),
    "no column": (SIMILARITY | {"text": ["q", "x"]}, {}, "/task/text/1", "has no column 'x'; its columns: q, d, s"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_leaves_nothing_to_tell_apart_is_refused(name: str) -> None:
    task, cells, pointer, message = REFUSED[name]
    with pytest.raises(SpecError) as caught:
        split(task, **{"q": QUERIES, "d": DOCUMENTS, "s": SCORES} | cells)
    assert (caught.value.field, message in caught.value.message) == (pointer, True), caught.value.message


def test_too_many_texts_to_measure_on_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "MOST_TEXTS", 39)
    with pytest.raises(SpecError, match=r"measure on 40 texts.* at most 39, by a whole number as 'test'") as caught:
        split(SIMILARITY | PAIRS, q=QUERIES, d=DOCUMENTS)
    assert caught.value.field == "/task/split"
    split(SIMILARITY | {"text": ["q"]}, q=QUERIES)


def test_of_one_test_document_nothing_is_said() -> None:
    with pytest.raises(SpecError, match="the test rows hold one document only") as caught:
        split(SIMILARITY | PAIRS | {"split": {"test": 1}}, q=QUERIES, d=DOCUMENTS)
    assert caught.value.field == "/task/split"
    with pytest.raises(SpecError, match="the test rows show one score only"):
        split(SIMILARITY | SCORED | {"split": {"test": 1}}, q=QUERIES, d=DOCUMENTS, s=SCORES)


def test_of_few_test_documents_it_is_warned() -> None:
    few = split(SIMILARITY | PAIRS, q=QUERIES, d=DOCUMENTS)
    assert few.warnings == ["20 test documents are searched: to find one among so few says little; give more test rows"]
    assert (
        split(
            SIMILARITY | {"text": ["q", "d", *"vwx"]},
            q=QUERIES,
            d=DOCUMENTS,
            **{name: [f"{name} {i}" for i in range(100)] for name in "vwx"},
        ).warnings
        == []
    )


def test_queries_that_do_not_count_are_warned_of() -> None:
    cells = [float(i % 2 and i % 5 > 0) for i in range(200)]
    splits = split(
        RANKING | SCORED, q=[f"query {i // 2}" for i in range(200)], d=[f"document {i}" for i in range(200)], s=cells
    )
    few, warning = splits.warnings
    assert " test queries are ranked: so few tell little" in few
    assert "of 20 test queries have documents of one relevance only, and do not count" in warning


ASKED: dict[str, tuple[dict[str, Any], str, str]] = {
    "one column to rank": (RANKING | {"text": ["q"]}, "task.text", "reads two columns: the query, and the document"),
    "no column to rank": (RANKING, "task.text", "reads two columns: the query, and the document"),
    "a score of one text": (SIMILARITY | {"text": ["q"], "label": "s"}, "task.label", "give two columns in 'text'"),
    "a score of three": (SIMILARITY | {"text": [*"qdw"], "label": "s"}, "task.label", "scores are of two texts each"),
    "relevance of three": (RANKING | {"text": [*"qdw"], "label": "s"}, "task.label", "scores are of two texts each"),
    "several labels": (SIMILARITY | PAIRS | {"label": ["s"]}, "task.label", "one column of numbers, or none"),
    "a map of no labels": (SIMILARITY | PAIRS | {"label_map": {"a": "b"}}, "task.label_map", "give 'label', too"),
    "a problem type": (SIMILARITY | {"problem_type": "regression"}, "task.problem_type", "leave it out for sentence-"),
    "another's metric": (SIMILARITY | PAIRS | {"metric": "accuracy"}, "task.metric", "give one of 'ndcg_at_10'"),
    "classes without labels": ({"label": None}, "task.label", "learns from labels: name their column"),
}


@pytest.mark.parametrize("name", ASKED)
def test_columns_that_do_not_suit_are_refused_by_name(name: str) -> None:
    task, where, message = ASKED[name]
    with pytest.raises(ValidationError) as caught:
        spec_of(task)
    [error] = caught.value.errors()
    assert (".".join(map(str, error["loc"])), message in error["msg"]) == (where, True), error["msg"]


SOURCES: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "one column to rank": (RANKING | PAIRS, {"text": ["t"]}, "/sources/0/text", "has 2 to 8 columns of text"),
    "a score of one text": (SIMILARITY | PAIRS, {"text": ["t"], "label": "s"}, "/sources/0/label", "two texts each"),
    "a score of three": (SIMILARITY | PAIRS, {"text": [*"tuv"], "label": "s"}, "/sources/0/label", "two texts each"),
    "auto": (SIMILARITY | PAIRS, {"text": ["t"], "coupling": "auto"}, "/transfer/coupling", "such as 'teacher'"),
    "labels of texts alone": (SIMILARITY, {"text": ["t"], "coupling": "joint"}, "/transfer/coupling", "two columns of"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources_that_do_not_suit_are_refused_by_name(name: str) -> None:
    task, source, pointer, message = SOURCES[name]
    asked = dict(source)
    coupling = {"transfer": {"coupling": asked.pop("coupling")}} if "coupling" in asked else {}
    with pytest.raises(ValidationError) as caught:
        spec_of(task, [asked], **coupling)
    [error] = caught.value.errors()
    assert (error["type"], message in error["msg"]) == (pointer, True), error["msg"]


FRESH = [f"fresh {i}" for i in range(40)]
MORE = [f"more {i}" for i in range(40)]


@pytest.mark.parametrize(
    ("cells", "pointer", "message"),
    [
        ({"u": FRESH}, "/sources/0/text/1", "repeats '/sources/0/text/0' in 40 of 40 rows"),
        ({"u": ["one"] * 40}, "/sources/0/text/1", "holds one document only"),
        ({"s": [-1.0, *SCORES[1:40]]}, "/sources/0/label", "holds -1: relevance is 0 (not relevant) or more; add 1"),
        ({"s": [2.0] * 40}, "/sources/0/label", "shows one value only (2): there is nothing to learn"),
        ({"t": QUERIES[:40]}, "/sources/0/data/dataset", "has 0 usable rows that do not repeat the target"),
    ],
)
def test_a_source_is_looked_at_as_the_target_is(cells: dict[str, Any], pointer: str, message: str) -> None:
    scored = {"label": "s"} if "s" in cells else {}
    source = {"asked": {"text": ["t", "u"]} | scored, "cells": {"t": FRESH, "u": MORE, "s": SCORES[:40]} | cells}
    with pytest.raises(SpecError) as caught:
        split(RANKING | PAIRS, source, q=QUERIES, d=DOCUMENTS)
    assert (caught.value.field, message in caught.value.message) == (pointer, True), caught.value.message


@pytest.mark.parametrize("asked", [{"text": ["t"]}, {"text": ["t", "u"]}, {"text": ["t", "u"], "label": "s"}])
@pytest.mark.parametrize("task", [{"text": ["q"]}, PAIRS, SCORED])
def test_any_texts_may_stand_beside_any(task: dict[str, Any], asked: dict[str, Any]) -> None:
    """Each row of a source that holds a text of the target's, on either side, is left out."""
    cells = {
        "t": ["QUERY number  3", *FRESH[1:]],
        "u": [MORE[0], "Document 7", *MORE[2:]],
        "s": SCORES[:40],
    }
    splits = split(SIMILARITY | task, {"asked": asked, "cells": cells}, q=QUERIES, d=DOCUMENTS, s=SCORES)
    repeats = 1 + ("u" in asked["text"] and "d" in task["text"])
    assert [len(rows) for rows in splits.sources] == [40 - repeats]
    assert splits.dropped["source rows that repeat a target row or an earlier source row"] == repeats
    assert all(len(row.text) == len(asked["text"]) for row in splits.sources[0])


def test_sources_of_a_ranking_may_be_pairs_or_relevance() -> None:
    pairs = {"asked": {"text": ["t", "u"]}, "cells": {"t": FRESH, "u": MORE}}
    [rows] = split(RANKING | PAIRS, pairs, q=QUERIES, d=DOCUMENTS).sources
    assert len(rows) == 400 and {row.label[1] for row in rows} == {"0.0", "1.0"}  # type: ignore[index]
    scored = {"asked": {"text": ["t", "u"], "label": "s"}, "cells": {"t": FRESH, "u": MORE, "s": SCORES[:40]}}
    [rows] = split(RANKING | PAIRS, scored, q=QUERIES, d=DOCUMENTS).sources
    assert len(rows) == 40


def test_coupling_is_teacher_where_none_is_named() -> None:
    assert spec_of(SIMILARITY, [{"text": ["t"]}]).coupling == "teacher"
    assert spec_of(RANKING | PAIRS, [{"text": ["t", "u"]}], transfer={"coupling": "joint"}).coupling == "joint"


def test_every_fault_of_target_and_source_is_told_at_once() -> None:
    spec = spec_of(SIMILARITY | PAIRS, [{"text": ["t", "u"]}])
    tables = {A: columns(q=QUERIES, d=QUERIES), B: columns(t=FRESH, u=FRESH)}
    with pytest.raises(SpecErrors) as caught:
        prepare(spec, tables)
    assert {fault.field for fault in caught.value.faults} == {"/task/text/1", "/sources/0/text/1"}
