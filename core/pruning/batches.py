"""Rows of token ids, and how batches are drawn from one or several streams of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from core.pruning.problem import IGNORED, Problem, SingleLabel
from core.spec.data import Example
from core.spec.problems import SpecError

ONE_CLASS = SingleLabel()
POOL = 16  # batches that are sorted by length together


@dataclass(frozen=True)
class Rows:
    """Tokenised examples, unpadded. `inputs` holds the tokenizer's columns, `labels` what the problem makes of them."""

    inputs: dict[str, list[Tensor]]
    labels: Tensor
    pad_id: int
    logits: Tensor | None = None  # (N, C), of words (N, T, C): what the teacher says of each row, computed once
    problem: Problem = ONE_CLASS

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each row, (N,)."""
        return torch.tensor([len(ids) for ids in self.inputs["input_ids"]])

    def beside(self, other: Rows) -> Rows:
        """These rows, then the other's; without logits."""
        inputs = {name: column + other.inputs[name] for name, column in self.inputs.items()}
        return Rows(inputs, stack([self.labels, other.labels], IGNORED), self.pad_id, problem=self.problem)

    def take(self, index: Sequence[int]) -> Rows:
        """Some of the rows, in the order of `index`."""
        inputs = {name: [column[i] for i in index] for name, column in self.inputs.items()}
        logits = None if self.logits is None else self.logits[list(index)]
        return Rows(inputs, self.labels[list(index)], self.pad_id, logits, self.problem)

    def collate(self, index: Sequence[int]) -> dict[str, Tensor]:
        """Padded inputs of some rows: column -> (B, longest of them)."""
        return {
            name: pad_sequence(
                [column[i] for i in index], batch_first=True, padding_value=self.pad_id if name == "input_ids" else 0
            )
            for name, column in self.inputs.items()
        }


def tokenise(examples: Sequence[Example], problem: Problem, tokenizer: Any, max_length: int) -> Rows:
    """Encode texts, pairs, or words; raises SpecError('/model') for a tokenizer that cannot take words."""
    encoded = encode([row.text for row in examples], problem, tokenizer, max_length)
    return Rows(
        {name: [torch.tensor(ids) for ids in column] for name, column in encoded.items()},
        problem.encode([row.label for row in examples], encoded),
        tokenizer.pad_token_id or 0,
        problem=problem,
    )


def encode(texts: Sequence[Sequence[str]], problem: Problem, tokenizer: Any, max_length: int, **options: Any) -> Any:
    """What the tokenizer makes of rows of one text, of two, or of words."""
    options |= {"truncation": True, "max_length": max_length, "return_attention_mask": True}
    if not problem.of_words:
        return tokenizer(*map(list, zip(*texts, strict=True)), **options) if texts else tokenizer([], **options)
    if not tokenizer.is_fast:
        raise SpecError("/model", "its tokenizer is written in Python and does not say which token is of which word")
    return tokenizer(list(map(list, texts)), is_split_into_words=True, **options)


def stack(parts: Sequence[Tensor], fill: float) -> Tensor:
    """Tensors one below the other, (N, ...), each as wide as the widest, filled up."""
    if parts[0].ndim < 2:
        return torch.cat(list(parts))
    width = max(part.shape[1] for part in parts)
    around = [0, 0] * (parts[0].ndim - 2)
    return torch.cat([F.pad(part, (*around, 0, width - part.shape[1]), value=fill) for part in parts])


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
