"""The application: `uvicorn api.main:create_app --factory`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import Depends, FastAPI

from api.coalesce import Coalescer
from api.context import Context
from api.http import problems
from api.http.auth import Authentication
from api.http.body import BodyLimit
from api.http.query import require_known
from api.page.parts import PAGES
from api.page.shared import Shared
from api.readers import Readers
from api.routes import (
    datasets,
    events,
    files,
    health,
    jobs,
    keys,
    methods,
    models,
    monitoring,
    reference,
    results,
    uploads,
    workers,
)
from api.watch import Watch
from core.ledger.database import open_database
from core.ledger.files import scratch
from core.ledger.files.stores import open_storage
from core.ledger.jobs.queries import shown
from core.ledger.settings import Settings, read_settings
from core.rows import sandbox

PARTS = (datasets, uploads, jobs, events, files, results, models, methods, workers, keys, health, monitoring, reference)
DESCRIPTION = """
Prune a pre-trained model to an exact budget for one task with little data, with transfer from related data.

Upload data sets, POST a job, poll it, download its files. Errors are `application/problem+json` (RFC 9457).
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The HTTP face on the database and storage that the settings (by default the environment's) name."""
    settings = settings or read_settings()
    database = open_database(settings)
    context = Context(
        settings,
        database,
        open_storage(settings),
        Watch(database),
        Readers(settings),
        polls=Coalescer(partial(shown, database)),
        streams=Coalescer(partial(events.read, database)),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        monitoring.log_to_stderr(settings.log)
        scratch.sweep(settings)
        with scratch.for_all(settings):
            yield
        sandbox.stop()
        database.close()

    app = FastAPI(
        title="Topwork",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        dependencies=[Depends(require_known)],
        docs_url=None,  # see `reference`
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.context, app.state.requests, app.state.probes = context, monitoring.Requests(), health.Probes()
    app.state.shared = Shared()
    problems.install(app)
    generate = app.openapi
    setattr(app, "openapi", lambda: problems.describe(generate()))  # noqa: B010, FastAPI's own way to change it
    app.add_middleware(Authentication, database=database, require_keys=settings.require_keys)
    app.add_middleware(BodyLimit, max_upload_bytes=settings.max_upload_bytes)
    app.add_middleware(monitoring.Measured, requests=app.state.requests)  # the last added is the outermost
    for part in (*PARTS, *PAGES):
        app.include_router(part.router)
    app.router.routes.insert(0, jobs.Poll())
    return app


if __name__ == "__main__":  # `make openapi`
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(create_app(Settings(data_dir=Path(folder))).openapi(), indent=1, ensure_ascii=False))
