"""Things by the names that people give: an id, its beginning or end, or a name that only one has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TypeVar

from topwork.errors import TopworkError

T = TypeVar("T")
FEW = 5


def choose(what: str, asked: str, there: Sequence[T], ids: Callable[[T], Sequence[str]], name: Callable[[T], str]) -> T:
    """The one that is meant; TopworkError names several, or what is near."""
    found = [one for one in there if asked == name(one) or asked in ids(one)]
    found = found or [one for one in there if any(_begins_or_ends(i, asked) for i in ids(one))]
    if len(found) == 1:
        return found[0]
    if found:
        several = "\n".join(f"  {ids(one)[0]}  {name(one)}" for one in found[:FEW])
        raise TopworkError(f"{len(found)} {what}s are meant by '{asked}'; give the id of one:\n{several}")
    near = get_close_matches(asked, [name(one) for one in there], n=1)
    meant = f"; did you mean '{near[0]}'?" if near else ""
    raise TopworkError(f"there is no {what} '{asked}'{meant}")


def _begins_or_ends(found: str, asked: str) -> bool:
    bare = found.partition("_")[2] or found
    return len(asked) >= 4 and (found.startswith(asked) or bare.startswith(asked) or bare.endswith(asked))
