"""Texts as rows of token ids: the tokenizer, and batches padded on the right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from core.rows.modality import Batch, Columns
from core.spec.errors import SpecError

IDS = "input_ids"


@dataclass(frozen=True)
class Text:
    """Texts, pairs of texts, or (`of_words`) texts split into words, of at most `max_length` tokens.

    `apart`: the texts of a row are encoded each for itself; a batch of B rows of k texts has B * k rows of tokens.
    """

    tokenizer: Any
    max_length: int
    of_words: bool = False
    apart: bool = False
    traced: ClassVar[tuple[int, int]] = (2, 8)
    free: ClassVar[tuple[str, ...]] = ("batch", "length")

    @property
    def largest(self) -> int:
        return self.max_length

    @property
    def pad_id(self) -> int:
        """The token that rows are filled up with."""
        return self.tokenizer.pad_token_id or 0

    def tokens(self, rows: Sequence[Sequence[str]], **options: Any) -> Any:
        """Give what the tokenizer makes of rows, `options` as it knows them; SpecError('/model') if it takes none."""
        options |= {"truncation": True, "max_length": self.max_length, "return_attention_mask": True}
        if not self.of_words:
            return self.tokenizer(*map(list, zip(*rows, strict=True)), **options) if rows else self.tokenizer([])
        if not self.tokenizer.is_fast:
            raise SpecError(
                "/model", "its tokenizer is written in Python and does not say which token is of which word"
            )
        return self.tokenizer(list(map(list, rows)), is_split_into_words=True, **options)

    def encode(self, rows: Sequence[tuple[str, ...]]) -> tuple[Columns, Any]:
        if self.apart and rows:
            return self._each(rows), None
        encoded = self.tokens(rows)
        return {name: [torch.tensor(ids) for ids in column] for name, column in encoded.items()}, encoded

    def _each(self, rows: Sequence[tuple[str, ...]]) -> Columns:
        """Columns of rows of k texts: of each row (tokens of its longest text, k)."""
        size = len(rows[0])
        encoded = self.tokens([(text,) for row in rows for text in row])
        return {
            name: [
                pad_sequence([torch.tensor(ids) for ids in column[i : i + size]], padding_value=self._fill(name))
                for i in range(0, len(column), size)
            ]
            for name, column in encoded.items()
        }

    def views(self, rows: int) -> int:
        """Texts are read as they are."""
        return 1

    def encode_views(self, rows: Sequence[tuple[Any, ...]], views: int) -> tuple[Columns, list[int]]:
        raise NotImplementedError

    def words_read(self, words: Sequence[str]) -> list[int]:
        """Give the places of those words of a row that fit into `max_length` and have a token."""
        return sorted({word for word in self.tokens([words]).word_ids(0) if word is not None})

    def sizes(self, columns: Columns) -> Tensor:
        """Tokens of each row."""
        return torch.tensor([len(ids) for ids in columns[IDS]])

    def collate(self, columns: Columns, index: Sequence[int]) -> Batch:
        batch = {
            name: pad_sequence([column[i] for i in index], batch_first=True, padding_value=self._fill(name))
            for name, column in columns.items()
        }
        return {name: column.mT.flatten(0, 1) if column.ndim > 2 else column for name, column in batch.items()}

    def join(self, batches: Sequence[Batch]) -> Batch:
        return {name: stack([batch[name] for batch in batches], self._fill(name)) for name in batches[0]}

    def blank(self, names: Sequence[str], rows: int, size: int) -> Batch:
        batch = {name: torch.zeros((rows, size), dtype=torch.long) for name in names}
        generator = torch.Generator().manual_seed(0)
        batch[IDS] = torch.randint(len(self.tokenizer), (rows, size), generator=generator)
        return batch | {"attention_mask": torch.ones((rows, size), dtype=torch.long)}

    def save(self, folder: Path, model: Any) -> None:
        """In words that transformers 4 and 5 both know; tokenizer.json says what it does."""
        self.tokenizer.save_pretrained(folder)
        path = folder / "tokenizer_config.json"
        said = json.loads(path.read_text(encoding="utf-8"))
        if self.tokenizer.is_fast:
            for name in ("auto_map", "backend", "is_local", "local_files_only"):
                said.pop(name, None)
            if isinstance(said.get("extra_special_tokens"), list):
                said["additional_special_tokens"] = said.pop("extra_special_tokens")
            # Each version has a class of this name that takes tokenizer.json as it is; of those named after a family
            # not.
            read = signature(model.forward).parameters
            names = [name for name in self.tokenizer.model_input_names if name in read]
            said |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": names}
        path.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def _fill(self, name: str) -> int:
        return self.pad_id if name == IDS else 0


def stack(parts: Sequence[Tensor], fill: float) -> Tensor:
    """Put tensors (N, ...) one below the other, each as wide as the widest, filled up."""
    if parts[0].ndim < 2:
        return torch.cat(list(parts))
    width = max(part.shape[1] for part in parts)
    around = [0, 0] * (parts[0].ndim - 2)
    return torch.cat([F.pad(part, (*around, 0, width - part.shape[1]), value=fill) for part in parts])
