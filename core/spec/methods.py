"""The pruning methods in words: what each needs, what it costs, when to use it. `GET /v1/methods` answers from here.

A method is a file in core/pruning/methods. What it says of itself is read from its text: an API never loads torch.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FILES = Path(__file__).parents[1] / "pruning" / "methods"


@dataclass(frozen=True)
class MethodFacts:
    """What FACTS in a method's file holds; the method is named like the file."""

    name: str
    what: str
    needs: str
    cost: str
    use: str  # when to
    source: str
    trains: bool = False  # while it prunes: it takes steps in the prune stage; others leave them to recovery by default
    reads_rows: bool = True  # its choice of units depends on the rows, so that sources may enter it
    sparsity: bool = False  # can zero single weights, too


def facts_of(path: Path) -> MethodFacts:
    """What the file says; raises ValueError or TypeError for one that says it otherwise."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="FACTS")], value=facts):
                return MethodFacts(path.stem, **ast.literal_eval(facts))
    raise ValueError(f"{path} holds no FACTS")


METHODS: Mapping[str, MethodFacts] = {
    path.stem: facts_of(path) for path in sorted(FILES.glob("*.py")) if path.stem != "__init__"
}
if not METHODS:
    raise ImportError(f"{FILES} holds no pruning method")
