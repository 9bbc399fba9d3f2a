"""Columns left at their usual names, found by what the data sets hold where these are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from api.context import Context
from core.ledger import datasets
from core.ledger.tables import Dataset
from core.spec.job import JobSpec
from core.spec.task import UNLABELLED, Source


def find_columns(here: Context, spec: JobSpec) -> tuple[JobSpec, list[str]]:
    """The specification with columns that are there, and what to know of them: a sentence each."""
    with here.database.read() as session:
        rows = {i: datasets.find(session, here.tenant_id, i) for i in set(spec.dataset_ids().values())}
    found = [*_borrowed(spec, {i: row for i, row in rows.items() if row is not None})]
    if not found:
        return spec, []
    return spec.with_values({pointer: name for pointer, name, _ in found}), [note for *_, note in found]


def _borrowed(spec: JobSpec, sets: Mapping[str, Dataset]) -> Iterator[tuple[str, str, str]]:
    """Of texts, or pictures, to transfer from: JSON pointer, column and note."""
    task = spec.task
    for pointer, part in spec.borrowed.items():
        row = sets.get(part.data.dataset or "")
        image = part.image is not None
        usual = task.columns if pointer == UNLABELLED else ["image" if image else "text"]
        if row is None or len(task.columns) > 1 or part.columns != usual or usual[0] in row.columns:
            continue
        if column := _fitting(spec, part, row):
            what = "pictures" if image else "texts"
            field = "image" if image else "text/0"
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
