"""What of an image classifier can be cut, told by its config.json alone, in a process of its own."""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

FORM = 1  # of a graph's JSON, and of the rules that it is made by


def traced(folder: Path, side: int, labels: int) -> dict[str, Any]:
    """Trace the model that config.json says, with a head of so many labels, for pictures of `side` pixels.

    Gives the graph as JSON. Raises SpecError('/model'). torch is named, not imported: no process that imports this
    file loads it.
    """
    load: Any = import_module("core.domains.channels.load")
    found: dict[str, Any] = load.graph_of(load.empty_body(folder, labels), side).to_json()
    return found


def key_of(folder: Path, side: int, labels: int) -> str:
    """Name what `traced` gives: it depends on nothing else."""
    config = json.loads((folder / "config.json").read_bytes())
    for name in ("id2label", "label2id", "_name_or_path"):  # of which labels alone is asked for
        config.pop(name, None)
    made_by = {name: version(name) for name in ("torch", "transformers")}
    known = json.dumps([FORM, config, side, labels, made_by], sort_keys=True)
    return hashlib.sha256(known.encode()).hexdigest()[:32]
