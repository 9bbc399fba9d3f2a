"""What of an image model can be cut: traced once in a process of its own, and kept beside the tables of latencies."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from api.context import Context
from core.domains.channels.costs import ImageCosts
from core.domains.channels.graph import Graph
from core.domains.channels.model import LocalImageModel
from core.domains.channels.reach import key_of, traced
from core.ledger import datasets
from core.ledger.scratch import scratch
from core.rows import sandbox
from core.spec.errors import SpecError
from core.spec.job import JobSpec

log = logging.getLogger(__name__)

KEPT = 64  # graphs that are held in memory: some 100 kB each
BROKEN = "/"  # what a process that broke is said of
MEMORY = 4 * 2**30  # of the process, which loads torch and tries a copy of the model


async def image_costs(here: Context, spec: JobSpec, model: LocalImageModel, labels: int) -> ImageCosts:
    """Every cost of a local image model in a job; SpecError where it cannot be traced, or nothing of it can go."""
    side = model.side_of(spec)
    file = here.settings.cache_dir / "graphs" / f"{key_of(model.folder, side, labels)}.json"
    if not file.exists():
        _save(await here.readers.run(here.tenant_id, _trace, here, model.folder, side, labels), file)
    return ImageCosts.at(_read(file), side, spec.multiple)


def _trace(here: Context, folder: Path, side: int, labels: int) -> dict[str, Any]:
    bounds = datasets.bounds(here.settings)
    bounds = sandbox.Bounds(max(MEMORY, bounds.memory_bytes), bounds.cpu_s, bounds.file_bytes)
    try:
        with scratch(here.settings) as room:
            return sandbox.run(
                traced, folder, side, labels, returns=dict[str, Any], bounds=bounds, scratch=room, where=BROKEN
            )
    except SpecError as error:
        if error.field != BROKEN:
            raise
        log.error("a model cannot be traced: %s: %s", folder.name, error.message)
        raise SpecError(
            "/model",
            f"to find out what of it can be cut took more than a process may take ({bounds.cpu_s} s of CPU, "
            f"{bounds.memory_bytes // 2**30} GiB), or failed: give a smaller 'train.image_size', or another model",
        ) from error


@lru_cache(KEPT)
def _read(file: Path) -> Graph:
    return Graph.from_json(json.loads(file.read_bytes()))


def _save(graph: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}")
    with suppress(FileNotFoundError):  # another request was sooner
        fresh.write_text(json.dumps(graph))
        fresh.replace(file)
