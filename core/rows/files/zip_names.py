"""Names in a zip that does not say how they are encoded: Windows writes those of its own code page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from zipfile import ZipInfo

IS_UTF8 = 0x800  # of an entry's flags
WORD = re.compile(r"(?:[^\W\d_]|[^\x00-\x7f])+")
LATIN = r"(?=.*[A-Za-z])([A-ZÀ-ÖØ-Þ]?[a-zß-öø-ÿ]+|[A-ZÀ-ÖØ-Þ]+)"
CYRILLIC = "[А-ЯЁ]?[а-яё]+|[А-ЯЁ]+"
HAN = "[一-龥]+"
GUESSES = {  # what a word looks like in the letters that each is for; of equal ones the first
    "cp850": LATIN,
    "cp1252": LATIN,
    "cp866": CYRILLIC,
    "cp1251": CYRILLIC,
    "cp932": "[ぁ-んァ-ヺー々一-龥]+",
    "cp949": "[가-힣]+",
    "gbk": HAN,
    "big5": HAN,
}
MOST = 0.8  # of the words


def encoding_of(entries: Sequence[ZipInfo]) -> str | None:
    """How names that Python read as CP437 are encoded, as all of them together look; None where nothing fits."""
    names = [raw for entry in entries if (raw := _raw(entry)) is not None]
    if not names:
        return None
    fits = {encoding: _fit(names, encoding, word) for encoding, word in {"utf-8": ".+", **GUESSES}.items()}
    best = max(fits, key=lambda encoding: fits[encoding])
    return best if fits[best] >= MOST else None


def name_of(entry: ZipInfo, encoding: str | None) -> str:
    """The name of an entry, where others are in `encoding`."""
    raw = _raw(entry)
    return entry.filename if raw is None or encoding is None else raw.decode(encoding)


def _raw(entry: ZipInfo) -> bytes | None:
    """The bytes of a name that is neither ASCII nor said to be UTF-8."""
    if entry.flag_bits & IS_UTF8 or entry.filename.isascii():
        return None
    try:
        return entry.filename.encode("cp437")
    except UnicodeEncodeError:
        return None


def _fit(names: Sequence[bytes], encoding: str, word: str) -> float:
    """The share of words beyond ASCII that look like words."""
    try:
        text = b"/".join(names).decode(encoding)
    except UnicodeDecodeError:
        return 0.0
    words = {found for found in WORD.findall(text) if not found.isascii()}
    return sum(bool(re.fullmatch(word, found)) for found in words) / max(1, len(words))
