"""A job is checked against what exists before it is accepted: data sets, columns, rows, labels, model, budget.

The worker does the same arithmetic again on the same data; what can be refused here costs nobody a run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api.context import Context
from api.http.problems import fault, invalid
from api.planning import catalogue, hub, names
from api.planning.columns import find_columns
from api.planning.latency import measured, too_fast
from api.planning.reaches import image_reach
from api.schemas import Fault
from core.domains.channels.model import LocalImageModel
from core.domains.channels.reach import Reach
from core.domains.head import Head, choose_head
from core.domains.transformer.costs import Costs
from core.domains.transformer.families import require_fitted
from core.domains.transformer.model import LocalModel
from core.ledger import datasets, webhooks
from core.ledger.files.scratch import scratch
from core.ledger.tables import Dataset
from core.rows import sandbox
from core.rows.files.understood import Understood
from core.rows.survey import Survey, survey
from core.spec.budget import of_size
from core.spec.errors import SpecError, SpecErrors, meant
from core.spec.job import JobSpec
from core.spec.latency import Latency
from core.spec.task import UNLABELLED


@dataclass(frozen=True)
class Checked:
    """What a job that can be accepted would run on.

    There are no costs of a model of the hub, nor of one of pictures where the API cannot find them out.
    """

    survey: Survey
    understood: dict[str, Understood | None]  # of each data set, by its id
    costs: Sequence[Costs | Reach]  # of each size
    model: LocalModel | LocalImageModel | None
    head: Head | None
    latency: Sequence[Latency]


async def check(here: Context, spec: JobSpec) -> Checked:
    """Raises a 422 Problem that lists every fault found."""
    model, mistake = await run_in_threadpool(_model, here, spec)
    reads = model.reads if isinstance(model, LocalModel) else None
    length = min(spec.train.max_length, reads or spec.train.max_length)
    found, rows, faults = await _read(here, spec, length)
    costs, head = list[Costs | Reach](), None
    if model is not None:
        try:
            if rows is not None:
                if isinstance(model, LocalModel):
                    model, head = model.answering(spec, rows.labels)
                else:
                    head = choose_head(model.labels, rows.labels, spec.task.problem)
                rows = replace(rows, labels=[*head.labels])
            costs = await _costs(here, spec, model, rows)
        except SpecError as error:
            mistake = error
    faults += [fault(one) for one in mistake.faults] if mistake is not None else []
    latency, everywhere = await run_in_threadpool(measured, here, costs)
    if everywhere and not spec.probe:
        faults += [fault(one) for one in too_fast(spec, costs, latency)]
    if rows is None or faults:
        raise invalid(faults)
    return Checked(rows, {i: datasets.understood(row) for i, row in found.items()}, costs, model, head, latency)


async def data_faults(here: Context, given: Any, wrong: Set[str]) -> list[Fault]:
    """What is wrong with the data of a specification whose fields `wrong` cannot be read; of the hub's, nothing."""
    if not isinstance(given, Mapping) or "task" in wrong:
        return []
    parts = {name: given[name] for name in ("task", "sources", "train") if name in given and name not in wrong}
    try:
        spec = JobSpec.model_validate({"model": "any", "budget": {"params": 0.5}, **parts})
    except ValidationError:
        return []
    if any(ref.dataset is None for ref in spec.references().values()):
        return []
    spec, _ = await run_in_threadpool(find_columns, here, await names.resolve(here, spec))
    return (await _read(here, spec, spec.train.max_length))[2]


async def _read(here: Context, spec: JobSpec, length: int) -> tuple[dict[str, Dataset], Survey | None, list[Fault]]:
    """The data sets, what their rows come to, and all that is wrong with them."""
    found, faults = await run_in_threadpool(_look, here, spec)
    try:
        return found, await _survey(here, spec, found, length), faults
    except SpecError as error:
        known = {_part(one.pointer or "") for one in faults}
        rest = [one for one in error.faults if _part(one.field) not in known]
        return found, None, faults + [Fault(pointer=_of_hub(spec, one.field), detail=one.message) for one in rest]


def _look(here: Context, spec: JobSpec) -> tuple[dict[str, Dataset], list[Fault]]:
    """The data sets that there are, and what is wrong with names and addresses."""
    with here.database.read() as session:
        found = _datasets(here, session, spec)
        faults = _missing(here, session, spec, found)
    faults += _mistaken(spec, found) + _missing_columns(spec, found)
    if spec.webhook is not None:
        faults += _webhook_faults(spec.webhook.url, here.settings.webhook_allow_private)
    return found, faults


async def _costs(
    here: Context, spec: JobSpec, model: LocalModel | LocalImageModel, rows: Survey | None
) -> list[Costs | Reach]:
    """What the model costs, for each size; raises SpecErrors of all that do not suit it."""
    found, wrong = list[Costs | Reach](), dict[str, SpecError]()
    for i, size in enumerate(spec.sizes):
        try:
            if (cost := await _costs_of(here, size, model, rows)) is not None:
                found.append(cost)
        except SpecError as error:
            told = [
                SpecError(of_size(one.field, i) if spec.budgets else one.field, one.message) for one in error.faults
            ]
            wrong |= {str(one): one for one in told}
    if wrong:
        raise SpecErrors([*wrong.values()])
    return found


async def _costs_of(
    here: Context, spec: JobSpec, model: LocalModel | LocalImageModel, rows: Survey | None
) -> Costs | Reach | None:
    if isinstance(model, LocalModel):
        return await run_in_threadpool(_weigh, spec, model, rows)
    if spec.train.steps.teach == 0 and rows:
        require_fitted(model.labels, rows.labels, spec.task.problem)
    model.require(spec)
    reach = await image_reach(here, spec, model, len(rows.labels) if rows else 2)
    if reach is not None and not spec.budget.timed:
        reach.limit(spec.budget)
    return reach


def _model(here: Context, spec: JobSpec) -> tuple[LocalModel | LocalImageModel | None, SpecError | None]:
    """The model, or what is wrong with it; neither of one of the hub, which the worker fetches and checks."""
    if said := catalogue.misnamed(here.settings.models_dir, spec.model):
        return None, SpecError("/model", said)
    if "/" in spec.model.partition("@")[0]:
        return None, None
    try:
        if spec.task.image is not None:
            return catalogue.find_images(here.settings.models_dir, spec.model), None
        return catalogue.find(here.settings.models_dir, spec.model, spec.task.problem), None
    except SpecError as error:
        return None, error


def _weigh(spec: JobSpec, model: LocalModel, survey: Survey | None) -> Costs:
    """What the model costs; raises SpecError where it does not suit what is asked."""
    if spec.train.steps.teach == 0 and survey and model.recipe is None:
        require_fitted(model.labels, survey.labels, spec.task.problem)
    labels = len(survey.labels) if survey else 2
    costs = model.costs(labels, spec.length, mapped=spec.maps_vectors, precision=spec.export.precision)
    if model.reads and (spec.budget.sequence_length or 0) > model.reads:
        raise SpecError("/budget/sequence_length", f"this model reads at most {model.reads} tokens")
    model.require(spec)
    # What depends on the tokens that the texts use, or on a clock, the worker finds out.
    whole = spec.vocabulary == "keep" or spec.budget.counted == "encoder" or spec.budget.kind == "macs"
    if whole and not spec.budget.timed:
        costs.limit(spec.budget, spec.export.first_layout, spec.hidden_size)
    return costs


async def _survey(here: Context, spec: JobSpec, found: Mapping[str, Dataset], length: int) -> Survey:
    """What the rows come to, remembered; raises SpecErrors of all that is wrong with them."""
    asked = spec.model_dump_json(include={"task", "sources", "train", "transfer"})
    key = repr((asked, sorted((i, row.sha256) for i, row in found.items()), length))

    def read() -> Survey:
        with scratch(here.settings) as folder:
            files = {i: here.storage.local(row.sha256, folder) for i, row in found.items()}
            bounds = datasets.bounds(here.settings)
            return sandbox.run(
                survey, spec, files, length, returns=Survey, bounds=bounds, scratch=folder, where="/task/data"
            )

    return await here.readers.survey(here.tenant_id, key, read)


def _part(pointer: str) -> str:
    """The target, a source, or a field of neither: faults of one part may follow from one another."""
    part = re.match(f"{UNLABELLED}|/sources/[0-9]+|/task", pointer)
    return part[0] if part else pointer


def _of_hub(spec: JobSpec, pointer: str) -> str:
    """Data sets that were fetched have faults where the hub is named."""
    fetched = [f"{part}/dataset" for part, ref in spec.references().items() if ref.hub]
    return pointer.removesuffix("dataset") + "hub" if pointer in fetched else pointer


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
    if faults := _missing(here, session, spec, _datasets(here, session, spec)):
        raise invalid(faults)


def _missing(here: Context, session: Session, spec: JobSpec, found: Mapping[str, Dataset]) -> list[Fault]:
    return [
        Fault(pointer=pointer, detail=names.missing(session, here.tenant_id, dataset_id))
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
                detail += _why_left_out(dataset, column) or meant(column, dataset.columns)
                faults.setdefault(pointer, Fault(pointer=pointer, detail=detail))
    return list(faults.values())


def _why_left_out(dataset: Dataset, column: str) -> str:
    """Of a column that the file had."""
    known = datasets.understood(dataset)
    why = next((one.why for one in known.skipped if one.column == column), None) if known else None
    return f" (the file's '{column[:200]}' was left out: {why})" if why else ""
