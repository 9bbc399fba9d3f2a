"""Which head a job starts with: the model's own, where it knows exactly the task's labels, or a fresh one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from core.domains.transformer.pooling import Recipe
from core.spec.task import NUMBERED, VECTORS, ProblemType

SHOWN = 40  # labels of a map that is spelled out


@dataclass(frozen=True)
class Head:
    """The head that is trained on, in words; `hint`: how the model's own could be used, where names alone differ."""

    own: bool
    labels: tuple[str, ...]  # of its outputs, in their order
    says: str
    hint: str | None = None


def choose_head(
    known: Sequence[str], labels: Sequence[str], problem: ProblemType, recipe: Recipe | None = None
) -> Head:
    """For a model whose head knows the labels `known` (none: it has no head that names each), and a task's `labels`.

    Where vectors are asked for, `recipe` says how the model makes one.
    """
    count = f"{len(labels)} label{'s' * (len(labels) != 1)}"
    if problem in VECTORS:
        recipe = recipe or Recipe()
        return Head(True, tuple(labels), f"its own vectors: {recipe.says}", recipe.hint)
    if problem in NUMBERED:
        if len(known) == 1:
            return Head(True, tuple(labels), "its own head for a number")
        return Head(False, tuple(labels), "a fresh head for a number")
    if {*known} == {*labels}:
        return Head(True, tuple(known), f"its own head for {count}")
    if not known:
        return Head(False, tuple(labels), f"a fresh head for {count}: it has none of its own")
    says = f"a fresh head for {count}: its own is for other labels ({_some(known)})"
    if {*labels} < {*known}:
        more = _some([name for name in known if name not in labels])
        hint = f"the model's own head knows {more}, too, which no training row shows: give such rows to start from it"
        return Head(False, tuple(labels), says, hint)
    if len(known) != len(labels):
        return Head(False, tuple(labels), says)
    renamed = {ours: theirs for ours, theirs in _pairs(known, labels) if ours != theirs}
    sure = "" if _spelled_alike(known, labels) else " if these mean the same,"
    spelled = json.dumps(dict(list(renamed.items())[:SHOWN]), ensure_ascii=False)
    spelled = spelled[:-1] + ", ...}" if len(renamed) > SHOWN else spelled
    hint = (
        f'the model\'s own head knows as many labels by other names ({_some(known)}):{sure} "label_map": {spelled} in '
        "'task' starts from its own head, and measures the model as given beside"
    )
    return Head(False, tuple(labels), says, hint)


def _pairs(known: Sequence[str], labels: Sequence[str]) -> list[tuple[str, str]]:
    """A label of the data beside each that the head knows: by spelling, by number, else in order."""
    spelled = {_plain(name): name for name in known}
    if _spelled_alike(known, labels) and len(spelled) == len(known):
        return [(name, spelled[_plain(name)]) for name in labels]
    if {*labels} == {str(i) for i in range(len(known))}:
        return [(str(i), name) for i, name in enumerate(known)]
    return list(zip(labels, known, strict=True))


def _spelled_alike(known: Sequence[str], labels: Sequence[str]) -> bool:
    """Else which label is which is a guess."""
    return {_plain(name) for name in labels} == {_plain(name) for name in known}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _some(names: Sequence[str]) -> str:
    return ", ".join(name[:40] for name in names[:4]) + ", ..." * (len(names) > 4)
