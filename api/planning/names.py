"""Data sets by the names of their files: a name that one data set alone has stands for its id."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api.context import Context
from core.ledger import datasets
from core.ledger.tables import Dataset
from core.spec.data import DATASET_ID
from core.spec.errors import meant
from core.spec.job import JobSpec

FEW = 5  # candidates in an answer


async def resolve(here: Context, spec: JobSpec) -> JobSpec:
    """The specification with ids for names; a name that stands for none, or for several, stays as it is."""
    named = {pointer: ref for pointer, ref in spec.references().items() if ref.dataset and not DATASET_ID(ref.dataset)}
    if not named:
        return spec
    found = await run_in_threadpool(_find, here, {str(ref.dataset) for ref in named.values()})
    known = {
        pointer: ref.model_copy(update={"dataset": found[str(ref.dataset)]})
        for pointer, ref in named.items()
        if ref.dataset in found
    }
    return spec.with_data(known) if known else spec


def _find(here: Context, names: set[str]) -> dict[str, str]:
    with here.database.read() as session:
        candidates = {name: _alike(datasets.all_named(session, here.tenant_id, name)) for name in names}
    return {name: rows[0].id for name, rows in candidates.items() if len(rows) == 1}


def _alike(rows: Sequence[Dataset]) -> list[Dataset]:
    """The newest of each content."""
    newest: dict[str, Dataset] = {}
    for row in rows:
        newest.setdefault(row.sha256, row)
    return [*newest.values()]


def missing(session: Session, tenant_id: str, asked: str) -> str:
    """What is wrong with a reference that leads to no data set: candidates, or what was meant."""
    if DATASET_ID(asked):
        return f"there is no data set '{asked}'; upload it with POST /v1/datasets"
    shown = asked[:200]
    if rows := _alike(datasets.all_named(session, tenant_id, asked)):
        told = ", ".join(f"'{row.id}' ({row.rows:,} rows)" for row in rows[:FEW])
        return f"{len(rows)} data sets are named '{shown}'; give the id of one: {told}"
    near = meant(asked, datasets.names(session, tenant_id))
    return f"there is no data set '{shown}'{near or '; upload it with POST /v1/datasets'}"
