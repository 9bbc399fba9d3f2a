"""Rows of token ids, and how batches are drawn from one or several streams of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from core.spec.data import Example

POOL = 16  # batches that are sorted by length together


@dataclass(frozen=True)
class Rows:
    """Tokenised examples, unpadded. `inputs` holds the tokenizer's columns; `labels` is (N,), -1 where unknown."""

    inputs: dict[str, list[Tensor]]
    labels: Tensor
    pad_id: int
    logits: Tensor | None = None  # (N, C): what the teacher says of each row, computed once

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each row, (N,)."""
        return torch.tensor([len(ids) for ids in self.inputs["input_ids"]])

    def beside(self, other: Rows) -> Rows:
        """These rows, then the other's; without logits."""
        inputs = {name: column + other.inputs[name] for name, column in self.inputs.items()}
        return Rows(inputs, torch.cat([self.labels, other.labels]), self.pad_id)

    def take(self, index: Sequence[int]) -> Rows:
        """Some of the rows, in the order of `index`."""
        inputs = {name: [column[i] for i in index] for name, column in self.inputs.items()}
        logits = None if self.logits is None else self.logits[list(index)]
        return Rows(inputs, self.labels[list(index)], self.pad_id, logits)

    def collate(self, index: Sequence[int]) -> dict[str, Tensor]:
        """Padded inputs of some rows: column -> (B, longest of them)."""
        return {
            name: pad_sequence(
                [column[i] for i in index], batch_first=True, padding_value=self.pad_id if name == "input_ids" else 0
            )
            for name, column in self.inputs.items()
        }


def tokenise(examples: Sequence[Example], labels: Sequence[str], tokenizer: Any, max_length: int) -> Rows:
    """Encode texts (or pairs); a label that `labels` does not hold becomes -1."""
    firsts = [row.text[0] for row in examples]
    seconds = [row.text[1] for row in examples] if examples and len(examples[0].text) == 2 else None
    encoded = tokenizer(firsts, seconds, truncation=True, max_length=max_length, return_attention_mask=True)
    number = {label: i for i, label in enumerate(labels)}
    return Rows(
        {name: [torch.tensor(ids) for ids in column] for name, column in encoded.items()},
        torch.tensor([number.get(row.label or "", -1) for row in examples]),
        tokenizer.pad_token_id or 0,
    )


def in_order(rows: Rows, batch_size: int) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Every row once, in batches of similar length: (row numbers, inputs)."""
    order = rows.lengths.argsort(stable=True).tolist()
    for start in range(0, len(order), batch_size):
        index = order[start : start + batch_size]
        yield index, rows.collate(index)


def draw(streams: Sequence[tuple[Rows, int]], steps: int, seed: int) -> Iterator[list[list[int]]]:
    """For each of `steps` batches, the row numbers to take from each stream, given (rows, how many a batch).

    Each stream is shuffled anew each time it is used up. Within a pool of batches, rows are grouped by length, in
    all streams alike, so that little is padded; the batches of a pool then come in random order.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = [rows.lengths for rows, _ in streams]
    left: list[list[int]] = [[] for _ in streams]
    for start in range(0, steps, POOL):
        size = min(POOL, steps - start)
        pools = []
        for i, (rows, share) in enumerate(streams):
            while len(left[i]) < size * share:
                left[i] += torch.randperm(len(rows), generator=generator).tolist()
            taken, left[i] = left[i][: size * share], left[i][size * share :]
            taken.sort(key=lambda row, i=i: int(lengths[i][row]))  # type: ignore[misc]
            pools.append([taken[j * share : (j + 1) * share] for j in range(size)])
        for j in torch.randperm(size, generator=generator).tolist():
            yield [pool[j] for pool in pools]
