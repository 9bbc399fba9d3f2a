"""What the cells of a column of texts say: one text, a pair, or words; by all cells of a task, and told."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any

from core.rows.cells import UNSAID, each, shown, spell, structure
from core.rows.columns import Column
from core.spec.errors import Faults, SpecError

Texts = tuple[str, ...]  # of one cell: a text, a pair, or words; () of an empty cell


def read_texts(
    sets: Sequence[tuple[str, Column]], words: bool, alone: bool, pointer: str, notes: list[str], faults: Faults
) -> list[list[Texts]]:
    """Of each data set (how a fault names it, and its column) what each row holds; `alone`: no other column is a text.

    Lists of words are joined; where no other column is read, lists of two texts are pairs.
    """
    found = [faults.attempt(partial(_cells, column, words, pointer, prefix)) for prefix, column in sets]
    lists = [cell for cells in found for cell in cells or () if isinstance(cell, list)]
    if not words and any(isinstance(cell, int | float) for _, column in sets for cell in column.values if cell == cell):
        notes.append("texts: numbers are taken as they are spelled")
    pairs = not words and alone and _are_pairs(lists)
    if lists and not words:
        what = "lists of two texts are taken as pairs" if pairs else "lists of words are joined by spaces"
        notes.append(f"texts: {what}")

    def text(cell: str | list[str]) -> Texts:
        if isinstance(cell, str):
            return (cell,) if cell.strip() else ()
        if words or pairs:
            return tuple(cell) if any(word.strip() for word in cell) else ()
        return (joined,) if (joined := " ".join(filter(None, map(str.strip, cell)))) else ()

    if pairs and any(isinstance(cell, str) and cell.strip() for cells in found for cell in cells or ()):
        faults.found.append(SpecError(pointer, "holds lists of two texts in some rows, and single texts in others"))
    return [[text(cell) for cell in cells or ()] for cells in found]


def _are_pairs(lists: Sequence[Sequence[str]]) -> bool:
    """Whether all have two items, most of several words."""
    items = list(chain.from_iterable(lists))
    return all(len(cell) == 2 for cell in lists) and 2 * sum(len(item.split()) > 1 for item in items) > len(items)


def _cells(column: Column, words: bool, pointer: str, prefix: str) -> list[str | list[str]]:
    """The texts, or lists of texts, of a column; raises SpecError that names the row, and the word."""
    if column.nested:
        first = next((cell for cell in column.values if cell is not None), "")
        raise SpecError(pointer, f"{prefix}holds objects or lists of lists ({shown(first)}): name a column of texts")
    values = column.values
    full = [cell for cell in values if cell is not None and cell != ""]
    if words or all(isinstance(cell, str) and cell.lstrip()[:1] in ("[", "(") for cell in full):
        parsed = [_parsed(cell) for cell in values]
        if words or all(isinstance(cell, list) for cell in parsed if cell):  # others merely begin like a list
            values = parsed
    if not words and all(isinstance(cell, str | None) for cell in values):
        return [cell or "" for cell in values]
    return each(values, partial(_words if words else _parts, names=column.names), pointer, prefix)


def _parsed(cell: Any) -> Any:
    found = structure(cell.strip()) if isinstance(cell, str) else None
    return found if isinstance(found, list) else cell


def _parts(cell: Any, names: Sequence[str] | None) -> str | list[str]:
    """A text, or texts in a list, of a text classification; numbers as they are spelled."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, list):
        if not all(isinstance(item, str | None) for item in cell):
            raise ValueError(f"{shown(cell)} is a list of numbers, and no text: name a column of texts")
        return [item or "" for item in cell]
    return "" if cell is None or cell != cell else spell(cell, names)  # NaN differs from itself


def _words(cell: Any, names: Sequence[str] | None) -> str | list[str]:
    """Words; one that is empty or blank gives no token, and stays, so that tags keep their places."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return ""
    if not isinstance(cell, list):
        raise ValueError(f'{shown(cell)} is no list of words; give one such as ["Ann", "sings"]')
    found = []
    for i, item in enumerate(cell, 1):
        if not isinstance(item, str | int | float):
            raise ValueError(f"word {i} is {shown(item)}, and no text")
        found.append(item if isinstance(item, str) else spell(item, names))
        if UNSAID.search(found[-1]):
            raise ValueError(f"word {i} holds a NUL or half of a surrogate pair; leave it out")
    return found
