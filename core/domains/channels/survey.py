"""Find out what of an image classifier can be cut: what it is made of is loaded when that is asked, and not before."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from core.domains.channels.families import family_of
from core.domains.channels.reach import Reach
from core.domains.config import read_config
from core.spec.job import Precision


def reach_of(
    folder: Path, side: int, labels: int, multiple: int, own: bool = False, precision: Precision = "float32"
) -> Reach:
    """Trace the model that config.json says, with a head of so many labels, for pictures of `side` pixels.

    `own`: readers may read their own channels; `precision`: of the weights' file. Raises SpecError('/model',
    '/channels/readers'). What it needs is named, not imported: no process that imports this file loads torch.
    """
    load: Any = import_module("core.domains.channels.load")
    costs: Any = import_module("core.domains.channels.costs")
    graph = load.graph_of(load.empty_body(folder, labels), side, own)
    head = family_of(read_config(folder / "config.json")).head
    found: Reach = costs.ImageCosts.at(graph, side, multiple, precision, head).reach
    return found
