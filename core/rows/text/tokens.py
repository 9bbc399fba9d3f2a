"""How many tokens texts come to, guessed without a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from core.rows.example import Example

CHARS_A_TOKEN = 4.0


SPECIAL_TOKENS = 2


def tokens_of(rows: Sequence[Example], max_length: int, apart: bool = False) -> int:
    """Mean tokens of a row, guessed from its characters: the tokenizer is with the worker.

    Where texts are encoded `apart`, those of its longest, as which the others are padded.
    """
    lengths = ([len(part) + 1 for part in row.text] for row in rows)
    counts = [(max(each) if apart else sum(each)) / CHARS_A_TOKEN + SPECIAL_TOKENS for each in lengths]
    return max(1, round(sum(min(count, max_length) for count in counts) / max(1, len(counts))))
