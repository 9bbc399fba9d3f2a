"""The demo's model and data, where `topwork fetch-demo` has put them: one button asks for its job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response

from api.context import Context, Here
from api.page.answer import Given, PageRoute, go, missing
from api.routes import jobs
from core.ledger import datasets, quotas
from core.ledger.files.storage import file_sha256
from core.spec.job import JobSpec

MODEL = "all-minilm-l6-v2"
TARGET, SOURCE = "products.csv", "movies.csv"

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.post("/demo")
async def run_demo(here: Here, form: Given) -> Response:
    """Ask for the job of the demo that borrows."""
    if not there(here):
        raise missing("the demo's data")
    ids = [await here.readers.run(here.tenant_id, _dataset, here, name) for name in (TARGET, SOURCE)]
    answer = Response()
    await jobs.submit(here, JobSpec.model_validate(_spec(*ids)), answer)
    return go(answer.headers["location"].removeprefix("/v1"))


def there(here: Context) -> bool:
    """Whether there is all that it needs."""
    return (here.settings.models_dir / MODEL).is_dir() and all(_file(here, name).is_file() for name in (TARGET, SOURCE))


def _file(here: Context, name: str) -> Path:
    return here.settings.data_dir / "demo" / name


def _dataset(here: Context, name: str) -> str:
    """The id of the tenant's data set of that name and file, which is read if there is none."""
    file = _file(here, name)
    sha256 = file_sha256(file)
    with here.database.read() as session:
        for known in datasets.all_named(session, here.tenant_id, name):
            if known.upload_sha256 == sha256:
                return known.id
    row = datasets.ingest([file], name, here.storage, here.settings, here.tenant_id)
    with here.database.begin() as session:
        quotas.check_storage(session, here.tenant_id, here.caller.key_id, here.settings, row.size_bytes)
        row.key_id = here.caller.key_id
        session.add(row)
    return row.id


def _spec(target: str, source: str) -> dict[str, Any]:
    return {
        "title": "Demo: product reviews, with movie reviews as the source",
        "model": MODEL,
        "task": {"data": {"dataset": target}, "split": {"train": 100, "dev": 100}},
        "sources": [{"data": {"dataset": source}, "label": "label"}],
        "transfer": {"coupling": "teacher"},  # named, since the trials of `auto` would take as long again
        "budget": {"params": 0.1, "of": "encoder"},
    }
