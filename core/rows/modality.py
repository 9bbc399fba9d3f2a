"""What rows are made of: the seam between stored columns and batches of tensors. Texts are the first member.

A modality encodes rows once, into unpadded columns, and collates any of them into a batch that a body takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

Columns = dict[str, "list[Tensor]"]  # of each name, a tensor a row
Batch = dict[str, "Tensor"]  # of each name, (B, ...): what the body is called with


@dataclass(frozen=True)
class Blank:
    """Makes batches whose content does not matter, of a modality and the columns `names`."""

    modality: Modality
    names: tuple[str, ...]

    def __call__(self, rows: int, size: int) -> Batch:
        """Make one of so many rows of that size."""
        return self.modality.blank(self.names, rows, size)

    @property
    def traced(self) -> Batch:
        """One that a model can be traced by."""
        return self(*self.modality.traced)

    @property
    def free(self) -> tuple[str, ...]:
        """What a traced model takes any number of, by the dimension of a batch."""
        return self.modality.free


class Modality(Protocol):
    """Turns rows, as a data set has them, into batches."""

    @property
    def largest(self) -> int:
        """How large a row can be: tokens of a text, pixels of a picture's side."""

    @property
    def traced(self) -> tuple[int, int]:
        """Rows, and the size of each, of a batch to trace a model by: of 1 it would know no other number."""

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the dimensions of a batch, from the first, whose size a traced model leaves open."""

    def encode(self, rows: Sequence[tuple[Any, ...]]) -> tuple[Columns, Any]:
        """Encode rows; beside the columns what the processor said, for labels that lie inside a row (of words)."""

    def views(self, rows: int) -> int:
        """Give how many rows to train on are made of each of so many."""

    def encode_views(self, rows: Sequence[tuple[Any, ...]], views: int) -> tuple[Columns, list[int]]:
        """Encode so many rows of each, and say of which each is."""

    def sizes(self, columns: Columns) -> Tensor:
        """Give how large each row is, (N,): rows of like size are batched together."""

    def collate(self, columns: Columns, index: Sequence[int]) -> Batch:
        """Make the rows `index` one batch, padded to the largest of them; of rows of k texts k times as many."""

    def join(self, batches: Sequence[Batch]) -> Batch:
        """Put batches one below the other, padded to the largest."""

    def words_read(self, words: Sequence[str]) -> list[int]:
        """Give the places of those parts of a row (words) that the body reads, and a task by parts answers."""

    def blank(self, names: Sequence[str], rows: int, size: int) -> Batch:
        """Make a full batch of the columns `names`, alike at every call: for latencies, and to trace a model."""

    def save(self, folder: Path, model: Any) -> None:
        """Write what makes `model`'s batches from rows, in words that plain tools know, beside its weights."""
