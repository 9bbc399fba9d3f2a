"""`/new`: a new job: own texts first, data, model, budget; its plan as prose; the same as JSON, which can be edited."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from api.context import Context, Here
from api.http.body import parse_json, require_storable
from api.http.faults import faults_of
from api.http.problems import Problem, fault
from api.page.answer import Given, PageRoute, go, show, text, upload_of
from api.page.form import BUDGETS, TOLD, Fields, names_said, place
from api.page.models import can_do
from api.page.spec import short
from api.planning.checks import data_faults
from api.routes import datasets as data_sets
from api.routes import jobs as asked
from api.routes import models
from api.schemas import Fault, Plan
from core.ledger import datasets, tables
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from core.spec.task import TaskType

CHOICES = 100  # data sets to choose from, the newest
UPLOADS = ("unlabelled", "data", "source")

router = APIRouter(include_in_schema=False, route_class=PageRoute)
Id = Annotated[str, Query(max_length=100)]


@dataclass
class Draft:
    """What stands on the page: fields, the same as JSON, what is wrong, and the plan."""

    fields: Fields
    spec: str = ""
    faults: list[Fault] = field(default_factory=list)
    plan: Plan | None = None


@router.get("/new")
def new_page(
    here: Here, request: Request, data: Id = "", unlabelled: Id = "", source: Id = "", model: Id = "", like: Id = ""
) -> Response:
    """The form: empty, or with what the page before has chosen, or like another job."""
    for name, value in request.query_params.multi_items():
        require_storable(value, parameter=name)
    draft = Draft(Fields(data=data, unlabelled=unlabelled, source=[source] if source else [], model=model))
    if like:
        with here.database.read() as session:
            spec = short(asked.find(here, session, like).spec)
        spec.pop("title", None)  # that is the other one's
        draft = Draft(Fields.of(spec), _written(spec))
    return _page(here, request, draft)


@router.post("/new")
async def new_job(here: Here, request: Request, form: Given) -> Response:
    """Take in files, show the plan, or start the job, as the button says."""
    draft, wanted = Draft(Fields.given(form), text(form, "spec")), text(form, "do")
    by_json = "spec" in form
    if not by_json:
        draft.faults += await _take_files(here, form, draft.fields)
    spec = None if draft.faults else await run_in_threadpool(_values, here, draft, by_json)
    if spec is not None and wanted != "upload":
        parsed, draft.faults = await _parsed(here, spec)
        if by_json and parsed is not None:
            draft.fields = Fields.of(short(parsed.model_dump(mode="json")))
        if parsed is not None and (done := await _carry_out(here, request, draft, parsed, wanted, text(form, "once"))):
            return done
    if wanted == "plan-part":
        return show(request, "new_plan.html", **_told(draft))
    return await run_in_threadpool(_page, here, request, draft)


async def _carry_out(
    here: Context, request: Request, draft: Draft, spec: JobSpec, wanted: str, once: str
) -> Response | None:
    """Where to go once the job is asked for, or the secret of its webhook, this once.

    None where the page is shown again, with the plan or what is wrong.
    """
    try:
        if wanted != "start":
            draft.plan = await asked.planned(here, spec)
            return None
        answer = Response()
        digest = hashlib.sha256(spec.model_dump_json().encode()).hexdigest()[:32]
        key = f"page-{once[:64]}-{digest}" if once.isalnum() else None  # the same form, sent twice, is one job
        job = await asked.submit(here, spec, answer, key)
        address = answer.headers["location"].removeprefix("/v1")
        if job.webhook_secret is not None:
            return show(request, "new_secret.html", job=address, secret=job.webhook_secret)
        return go(address)
    except SpecError as error:
        draft.faults = [fault(one) for one in error.faults]
    except Problem as problem:
        if problem.status_code != 422:
            raise
        draft.faults = problem.faults
    return None


def _values(here: Context, draft: Draft, by_json: bool) -> dict[str, Any] | None:
    """What is asked for, as JSON; None where that cannot be read."""
    try:
        found = parse_json(draft.spec.encode()) if by_json else _asked_for(here, draft.fields)
    except Problem as problem:
        draft.faults = problem.faults
        return None
    if not isinstance(found, dict):
        draft.faults = [Fault(pointer="", detail="should be a JSON object")]
        return None
    draft.spec = draft.spec if by_json else _written(found)
    return found


def _asked_for(here: Context, fields: Fields) -> dict[str, Any]:
    with here.database.read() as session:
        chosen = _chosen(here, session, fields)
    return fields.spec({i: row.columns for i, row in chosen.items()})


async def _parsed(here: Context, values: Mapping[str, Any]) -> tuple[JobSpec | None, list[Fault]]:
    """The specification; else all that is wrong with it, and with its data, as `POST /v1/jobs` says it."""
    try:
        return JobSpec.model_validate(values), []
    except ValidationError as error:
        errors = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        faults = faults_of(RequestValidationError(errors, body=values))
    wrong = {(one.pointer or "/").split("/")[1] for one in faults}
    return None, [*faults, *await data_faults(here, values, wrong)]


async def _take_files(here: Context, form: FormData, fields: Fields) -> list[Fault]:
    """Make data sets of the files of the form, and choose them; returns what is wrong with files."""
    faults = []
    for name in UPLOADS:
        if (file := upload_of(form, f"{name}_file")) is None:
            continue
        try:
            made = (await data_sets.upload(here, file, Response())).id
        except SpecError as error:
            faults.append(Fault(pointer=f"/{name}_file", detail=error.message))
            continue
        setattr(fields, name, [*fields.source, made] if name == "source" else made)
    return faults


def _page(here: Context, request: Request, draft: Draft) -> Response:
    with here.database.read() as session:
        choices = datasets.page(session, here.tenant_id, CHOICES)
        chosen = _chosen(here, session, draft.fields)
    listed = models.list_models(here)
    draft.fields.suit(chosen.get(draft.fields.data))
    if request.method == "GET":  # who has emptied a field meant that
        if not draft.fields.base:
            draft.fields.suit_sources([chosen[i] for i in draft.fields.source if i in chosen])
        draft.fields.model = draft.fields.model or next((model.name for model in listed.items), "")
    if draft.fields.data and not (draft.spec or draft.faults):
        draft.spec = _written(_asked_for(here, draft.fields))
    return show(
        request,
        "new.html",
        422 if draft.faults else 200,
        choices=[*choices, *(row for i, row in chosen.items() if i not in {one.id for one in choices})],
        chosen=chosen,
        columns=[names_said(name) for name in chosen[draft.fields.data].columns] if draft.fields.data in chosen else [],
        models=listed.items,
        unusable=listed.unusable,
        can={model.name: can_do(model) for model in listed.items},
        types=get_args(TaskType),
        told=TOLD,
        budgets=BUDGETS,
        once=secrets.token_hex(8),
        **_told(draft),
    )


def _told(draft: Draft) -> dict[str, Any]:
    beside, rest = place(draft.faults)
    said = {"beside": beside, "rest": rest, "faults": draft.faults}
    return {"f": draft.fields, "spec": draft.spec, "plan": draft.plan, **said}


def _chosen(here: Context, session: Session, fields: Fields) -> dict[str, tables.Dataset]:
    """The data sets that the fields name, by id, of those that there are."""
    found = {i: datasets.find(session, here.tenant_id, i) for i in (fields.data, fields.unlabelled, *fields.source)}
    return {i: row for i, row in found.items() if row is not None}


def _written(spec: Mapping[str, Any]) -> str:
    return json.dumps(spec, indent=2, ensure_ascii=False)
