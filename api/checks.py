"""A job is checked against what exists before it is accepted: data sets, columns, rows, labels, model, budget.

The worker does the same arithmetic again on the same data; what can be refused here costs nobody a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import httpx
from sqlalchemy.orm import Session

from api import catalogue, hub
from api.context import Context
from api.problems import fault, invalid
from api.schemas import Fault
from core.ledger import datasets, webhooks
from core.ledger.tables import Dataset
from core.spec.cost import Costs
from core.spec.data import Splits, prepare
from core.spec.families import require_fitted
from core.spec.head import Head, choose_head
from core.spec.job import JobSpec
from core.spec.model import STRETCHES
from core.spec.problems import SpecError


@dataclass(frozen=True)
class Checked:
    """What a job that can be accepted would run on; the costs are not known of a model of the hub."""

    splits: Splits
    costs: Costs | None
    model: catalogue.LocalModel | None
    head: Head | None


def check(here: Context, spec: JobSpec) -> Checked:
    """Raises a 422 Problem that lists every fault found."""
    with here.database.read() as session:
        found = _datasets(here, session, spec)
    faults = _missing(spec, found) + _mistaken(spec, found) + _missing_columns(spec, found)
    if spec.webhook is not None:
        faults += _webhook_faults(spec.webhook.url, here.settings.webhook_allow_private)
    splits = costs = model = head = None
    if not faults:
        try:
            splits = _splits(here, spec, found)
        except SpecError as error:
            fetched = [f"{pointer}/dataset" for pointer, ref in spec.references().items() if ref.hub]
            where = error.field.removesuffix("dataset") + "hub" if error.field in fetched else error.field
            faults.append(Fault(pointer=where, detail=error.message))
    if said := catalogue.misnamed(here.settings.models_dir, spec.model):
        faults.append(Fault(pointer="/model", detail=said))
    if "/" not in spec.model.partition("@")[0]:  # a model of the hub is fetched and checked by the worker
        try:
            model = catalogue.find(here.settings.models_dir, spec.model, spec.task.problem)
            if splits:
                head = choose_head(model.labels, splits.labels, spec.task.problem)
                splits = replace(splits, labels=[*head.labels])
                if spec.train.steps.teach == 0:
                    require_fitted(model.labels, splits.labels)
            costs = model.costs(len(splits.labels) if splits else 2, spec.length)
            if model.reads and (spec.budget.sequence_length or 0) > model.reads:
                raise SpecError("/budget/sequence_length", f"this model reads at most {model.reads} tokens")
            if model.stretches and "onnx" in (*spec.export.formats, spec.budget.runtime):
                raise SpecError("/export/formats", STRETCHES)
            # What depends on the tokens that the texts use, or on a clock, the worker finds out.
            whole = spec.vocabulary == "keep" or spec.budget.counted == "encoder" or spec.budget.kind == "macs"
            if whole and not spec.budget.timed:
                costs.limit(spec.budget, spec.export.layout, spec.hidden_size)
        except SpecError as error:
            faults.append(fault(error))
    if splits is None or faults:
        raise invalid(faults)
    return Checked(splits, costs, model, head)


def _webhook_faults(url: str, allow_private: bool) -> list[Fault]:
    """A name's addresses are checked when a message is sent; what can be told from the URL itself is refused here."""
    parts = urlsplit(url)
    try:
        httpx.URL(url)  # which sends it, and reads hosts more strictly
    except httpx.InvalidURL as error:
        return [Fault(pointer="/webhook/url", detail=f"is not an address: {error}")]
    try:
        public = webhooks.is_public(str(parts.hostname))
    except ValueError:
        public = parts.hostname != "localhost"
    if not allow_private and (parts.scheme != "https" or not public):
        detail = "give an https address on the public internet (or have the operator set TOPWORK_WEBHOOK_ALLOW_PRIVATE)"
        return [Fault(pointer="/webhook/url", detail=detail)]
    return []


def still_there(here: Context, session: Session, spec: JobSpec) -> None:
    """Raises a 422 Problem if a data set was deleted since `check`; for the transaction that queues the job."""
    if faults := _missing(spec, _datasets(here, session, spec)):
        raise invalid(faults)


def _missing(spec: JobSpec, found: Mapping[str, Dataset]) -> list[Fault]:
    return [
        Fault(pointer=pointer, detail=f"there is no data set '{dataset_id}'; upload it with POST /v1/datasets")
        for pointer, dataset_id in spec.dataset_ids().items()
        if dataset_id not in found
    ]


def _mistaken(spec: JobSpec, found: Mapping[str, Dataset]) -> list[Fault]:
    """References that say of a data set that it came from a hub, as answers do, when it did not."""
    return [
        Fault(pointer=f"{pointer}/hub", detail="the data set did not come from there; leave 'hub' or 'dataset' out")
        for pointer, ref in spec.references().items()
        if ref.hub and ref.dataset and ref.dataset in found and found[ref.dataset].name != hub.origin(ref)
    ]


def _datasets(here: Context, session: Session, spec: JobSpec) -> dict[str, Dataset]:
    rows = {i: datasets.find(session, here.tenant_id, i) for i in set(spec.dataset_ids().values())}
    return {i: row for i, row in rows.items() if row is not None}


def _missing_columns(spec: JobSpec, found: Mapping[str, Dataset]) -> list[Fault]:
    faults: dict[str, Fault] = {}
    for dataset_id, columns in spec.columns():
        dataset = found.get(dataset_id)
        for pointer, column in columns.items():
            if dataset is not None and column not in dataset.columns:
                known = ", ".join(f"'{name}'" for name in dataset.columns)
                detail = f"the data set '{dataset.name}' has no column '{column[:200]}'; its columns: {known}"
                faults.setdefault(pointer, Fault(pointer=pointer, detail=detail))
    return list(faults.values())


def _splits(here: Context, spec: JobSpec, found: Mapping[str, Dataset]) -> Splits:
    """The rows that the job would use."""
    needed: dict[str, set[str]] = {}
    for dataset_id, columns in spec.columns():
        needed.setdefault(dataset_id, set()).update(columns.values())
    tables = {i: datasets.read_table(found[i], here.storage, sorted(names)) for i, names in needed.items()}
    return prepare(spec, tables)
