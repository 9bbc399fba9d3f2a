"""The one error type for a request that cannot be carried out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


def meant(asked: object, known: Iterable[str]) -> str:
    """The name that is near to what was asked, as the end of a sentence; empty where none is."""
    near = get_close_matches(str(asked)[:200], [*known], n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


class SpecError(ValueError):
    """A request that cannot be carried out as asked.

    `field` is a JSON pointer (RFC 6901) into the job specification; `message` says what was wrong, what was
    expected and how to mend it. The web edge answers it with 422; a worker fails the job with it.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message

    @property
    def faults(self) -> list[SpecError]:
        """Each thing that is wrong, for an answer that names all at once."""
        return [self]


class SpecErrors(SpecError):
    """Several that do not depend on each other; `field` and `message` are the first's."""

    def __init__(self, faults: Sequence[SpecError]) -> None:
        super().__init__(faults[0].field, faults[0].message)
        self._faults = list(faults)

    def __str__(self) -> str:
        return "; ".join(map(str, self._faults))

    @property
    def faults(self) -> list[SpecError]:
        return self._faults


class Faults:
    """Collects what is wrong where one fault does not hide another."""

    def __init__(self) -> None:
        self.found: list[SpecError] = []

    def attempt(self, step: Callable[[], T]) -> T | None:
        """What a step gives; None where it is refused."""
        try:
            return step()
        except SpecError as error:
            self.found += error.faults
            return None

    def check(self) -> None:
        """Raise what was found, if anything was."""
        if self.found:
            raise self.found[0] if len(self.found) == 1 else SpecErrors(self.found)
