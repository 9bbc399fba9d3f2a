"""Columns left at their usual names, found by what the data sets hold where these are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from api.context import Context
from core.ledger import datasets
from core.ledger.tables import Dataset
from core.spec.job import JobSpec
from core.spec.task import Source


def find_columns(here: Context, spec: JobSpec) -> tuple[JobSpec, list[str]]:
    """The specification with columns that are there, and what to know of them: a sentence each."""
    with here.database.read() as session:
        rows = {i: datasets.find(session, here.tenant_id, i) for i in set(spec.dataset_ids().values())}
    sets, notes = {i: row for i, row in rows.items() if row is not None}, list[str]()
    for look in (_tagged, _borrowed):  # the second goes by the columns that the first finds
        if found := [*look(spec, sets)]:
            spec = spec.with_values({pointer: name for pointer, name, _ in found})
            notes += [note for *_, note in found]
    return spec, notes


def _tagged(spec: JobSpec, sets: Mapping[str, Dataset]) -> Iterator[tuple[str, str, str]]:
    """Of the target's words and tags: JSON pointer, column and note."""
    task = spec.task
    mine = [sets.get(ref.dataset or "") for at, ref in spec.references().items() if at.startswith("/task/data")]
    if task.type != "token-classification" or not all(mine):
        return
    held = set.intersection(*({*row.columns} for row in mine if row))
    of = ", ".join(row.name for row in mine if row)
    for field, given, usual, what, names in (
        ("text/0", task.text, "text", "words", ("tokens",)),
        ("label", task.label_columns, "label", "tags", ("tags", "ner_tags")),
    ):
        column = next((name for name in names if name in held), None)
        if column and given == [usual] and usual not in held:
            yield f"/task/{field}", column, f"the {what} of {of} are in the column '{column}'"


def _borrowed(spec: JobSpec, sets: Mapping[str, Dataset]) -> Iterator[tuple[str, str, str]]:
    """Of texts, or pictures, to transfer from: JSON pointer, column and note."""
    for pointer, part in spec.borrowed.items():
        row, (own, *others) = sets.get(part.data.dataset or ""), spec.task.columns
        kind, field, what = ("image", "image", "pictures") if part.image is not None else ("text", "text/0", "texts")
        named = others or part.columns not in ([own], [kind])
        if row is None or named or part.columns[0] in row.columns:
            continue
        if column := _fitting(spec, part, row):
            yield f"{pointer}/{field}", column, f"the {what} of {row.name} are its column '{column}'"


def _fitting(spec: JobSpec, part: Source, row: Dataset) -> str | None:
    """The column of the task's name, or of the usual one, or the only one that can be it: of few values are labels."""
    if spec.task.columns[0] in row.columns:
        return spec.task.columns[0]
    words = spec.task.problem == "token_classification"
    kind, usual = ("list of texts", "tokens") if words else ("text", "text")
    kind, usual = ("picture", "image") if part.image is not None else (kind, usual)
    known = datasets.understood(row)
    labels = {*part.label_columns, *spec.task.label_columns}
    facts = [one for one in known.columns if one.type == kind and one.name not in labels] if known else []
    called = [one for one in facts if one.name == usual]
    fitting = next(
        (found for found in (called, facts, [one for one in facts if not one.values]) if len(found) == 1), []
    )
    return fitting[0].name if fitting else None
