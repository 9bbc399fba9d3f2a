"""One row that is learned from, and when two texts are one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.rows.image.picture import Picture
from core.rows.labels import Label

BEYOND_ASCII = re.compile("[^\x00-\x7f][^!-~]*")  # and the spaces between such words
# Accents, and what is not seen: soft hyphens, zero widths, directions, variants of signs, byte order marks.
UNSEEN = re.compile("[\u00ad\u0300-\u036f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
PLAIN = dict(zip("‘’‚“”„‐–—−", "'''\"\"\"----", strict=True))
CURLY = re.compile(f"[{''.join(PLAIN)}]")


@dataclass(frozen=True)
class Example:
    """One row: one text, a pair, several texts that are compared, or the words of one; and its label, if any.

    Of a task whose rows are pictures `text` is one Picture.
    """

    text: tuple[Any, ...]
    label: Label | None

    @property
    def key(self) -> str:
        """What makes two rows duplicates of each other."""
        return "\x1f".join(cell.digest if isinstance(cell, Picture) else spelling(cell) for cell in self.text)


def labels_of(rows: Sequence[Example]) -> list[Label]:
    """The labels of rows that have one."""
    return [row.label for row in rows if row.label is not None]


def spelling(text: str) -> str:
    """A text without case, white space, accents, typography and what is not seen: models read most of these alike.

    Other signs stay: without them C++ would be C, 1.5 be 15, and a smile a frown, whose labels may well differ.
    """
    return "".join(BEYOND_ASCII.sub(_plain, text).casefold().split()) or text


def _plain(found: re.Match[str]) -> str:
    folded = UNSEEN.sub("", unicodedata.normalize("NFKD", found[0]))
    return CURLY.sub(lambda sign: PLAIN[sign[0]], folded)
