"""What of an image model can be cut: found out once by a process of its own, and kept in the cache folder."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from pydantic import TypeAdapter

from api.context import Context
from core.domains.channels.model import LocalImageModel
from core.domains.channels.reach import MADE_BY, Reach, key_of
from core.domains.channels.survey import reach_of
from core.ledger import datasets
from core.ledger.files.scratch import scratch
from core.rows import sandbox
from core.spec.errors import SpecError
from core.spec.job import JobSpec, Precision

log = logging.getLogger(__name__)

REACH = TypeAdapter(Reach)
KEPT = 256  # that are held in memory: some 2 kB each
BROKEN = "/"  # what a process that broke is said of
MEMORY = 4 * 2**30  # of the process, which loads torch and tries copies of the model
WEIGHT_BYTES = 20  # of that, at least: it, its copy in float64, and the same of what is cut


async def image_reach(here: Context, spec: JobSpec, model: LocalImageModel, labels: int) -> Reach | None:
    """The range of every cost of a local image model.

    None leaves it to the worker: on a server without torch, and where it takes more than one process may have here.
    SpecError where it cannot be traced, or nothing of it can go.
    """
    asked = model.folder, model.side_of(spec), labels, spec.multiple, spec.own_readers, spec.export.precision
    if not all(map(find_spec, MADE_BY)):
        return None
    file = here.settings.cache_dir / "reach" / f"{key_of(*asked)}.json"
    if not file.exists():
        bounds = _bounds(here)
        if WEIGHT_BYTES * model.params > bounds.memory_bytes:
            return None
        try:
            _save(await here.readers.run(here.tenant_id, _find_out, here, bounds, *asked), file)
        except sandbox.Exceeded as error:
            log.warning("what of a model can be cut is left to the worker: %s: %s", model.name, error.message)
            return None
    return _read(file)


def _bounds(here: Context) -> sandbox.Bounds:
    bounds = datasets.bounds(here.settings)
    return replace(bounds, memory_bytes=max(MEMORY, bounds.memory_bytes))


def _find_out(
    here: Context,
    bounds: sandbox.Bounds,
    folder: Path,
    side: int,
    labels: int,
    multiple: int,
    own: bool,
    precision: Precision,
) -> Reach:
    try:
        with scratch(here.settings) as room:
            asked = folder, side, labels, multiple, own, precision
            return sandbox.run(reach_of, *asked, returns=Reach, bounds=bounds, scratch=room, where=BROKEN)
    except sandbox.Exceeded:
        raise
    except SpecError as error:
        if error.field != BROKEN:
            raise
        log.error("a model cannot be traced: %s: %s", folder.name, error.message)
        raise SpecError(
            "/model", "to find out what of it can be cut failed in a way that we have not foreseen: give another model"
        ) from error


@lru_cache(KEPT)
def _read(file: Path) -> Reach:
    return REACH.validate_json(file.read_bytes())


def _save(found: Reach, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}")
    with suppress(FileNotFoundError):  # another request was sooner
        fresh.write_bytes(REACH.dump_json(found))
        fresh.replace(file)
