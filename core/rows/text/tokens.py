"""How many tokens texts come to, guessed without a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from core.rows.example import Example

CHARS_A_TOKEN = 4.0


SPECIAL_TOKENS = 2


def tokens_of(rows: Sequence[Example], max_length: int) -> int:
    """Mean tokens of a row, guessed from its characters: the tokenizer is with the worker."""
    counts = [sum(len(part) + 1 for part in row.text) / CHARS_A_TOKEN + SPECIAL_TOKENS for row in rows]
    return max(1, round(sum(min(count, max_length) for count in counts) / max(1, len(counts))))
