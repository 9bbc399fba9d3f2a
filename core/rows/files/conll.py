"""CoNLL: a word and its tag a line, with a blank line between sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from core.rows.faults import fault, place
from core.rows.files.gather import Gathered

ENDINGS = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".bioes")
TAG = re.compile(r"O|[BIESLU]-\S+")
BATCH_WORDS = 200_000
MAX_LINE_CHARS = 2**20
UNIVERSAL, NUMBERED = 10, re.compile(r"\d+([-.]\d+)?")  # columns of CoNLL-U, and how it numbers words


def is_conll(sample: str) -> bool:
    """Whether a text is a word and a tag a line, of which most sentences have several."""
    lines = [line for line in sample.split("\n")[:2000] if not line.startswith(("-DOCSTART-", "#"))]
    words = [line.split() for line in lines if line.strip()]
    if len(words) < 3 or not any(not line.strip() for line in lines[:-1]):
        return False
    tagged = sum(len(cells) > 1 and bool(TAG.fullmatch(cells[-1])) for cells in words)
    return tagged > 0.95 * len(words)


def read(path: Path, gathered: Gathered) -> None:
    """Read a text into columns `tokens` and `tags`."""
    import pyarrow as pa

    first, words = 1, 0
    batch: list[list[tuple[str, str]]] = []
    lines: list[int] = []

    def flush() -> None:
        nonlocal first, words
        texts = pa.list_(pa.string())
        cells = {
            name: ("list:text", pa.array([[pair[at] for pair in sentence] for sentence in batch], texts))
            for at, name in enumerate(("tokens", "tags"))
        }
        begun = list(lines)
        gathered.add(cells, len(batch), first, lambda row: begun[row])
        first, words = first + len(batch), 0
        batch.clear()
        lines.clear()

    for line, sentence in _sentences(path, gathered):
        batch.append(sentence)
        lines.append(line)
        words += len(sentence)
        if words >= BATCH_WORDS:
            flush()
    if batch:
        flush()


def _sentences(path: Path, gathered: Gathered) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Pairs of word and tag, with the line where the sentence begins."""
    found: list[tuple[str, str]] = []
    begun, row = 1, 1
    width, like = 0, _first_word(path)
    with path.open(encoding="utf-8", newline="\n") as data:
        for number, line in enumerate(iter(lambda: data.readline(MAX_LINE_CHARS), ""), 1):
            text = line.strip()
            if text.startswith("-DOCSTART-") or (text.startswith("#") and _is_comment(text, like, bool(found))):
                continue
            if text:
                cells = _cells(line)
                width = width or len(cells)
                if len(cells) < 2 or len(cells) != width:
                    raise fault(
                        f"{place(row, number)}: {len(cells)} {'cell' if len(cells) == 1 else 'cells'}, where other "
                        f"lines have {max(2, width)}: a line is a word, and its tag at the end"
                    )
                begun = begun if found else number
                if width == UNIVERSAL and NUMBERED.fullmatch(cells[0]):
                    gathered.note("It is CoNLL-U: the tags are the fourth column, universal parts of speech (UPOS).")
                    if cells[0].isdigit():  # no range of words that are written as one, and no word that is not written
                        found.append((cells[1].strip(), cells[3].strip()))
                else:
                    found.append((cells[0].strip(), cells[-1].strip()))
            elif found:
                yield begun, found
                found, row = [], row + 1
    if found:
        yield begun, found


def _cells(line: str) -> list[str]:
    return line.rstrip("\n").split("\t") if "\t" in line.strip() else line.split()


def _first_word(path: Path) -> str:
    """The first line with a word that begins with no '#'."""
    with path.open(encoding="utf-8", newline="\n") as data:
        lines = iter(lambda: data.readline(MAX_LINE_CHARS), "")
        return next((line for line in lines if line.strip() and not line.lstrip().startswith(("-DOCSTART-", "#"))), "")


def _is_comment(text: str, like: str, inside: bool) -> bool:
    """Whether '#' begins a comment, and is no word with a tag, as the line `like` is; `inside`: of a sentence.

    Before a sentence words between spaces may be either: a tag by IOB tells, or that all tags are other ones.
    """
    cells, usual = _cells(text), _cells(like)
    tagged = bool(TAG.fullmatch(cells[-1]))
    if ("\t" in text) != ("\t" in like.strip()):
        return True
    if len(cells) != len(usual):
        return not tagged or len(cells) > 4
    if inside or tagged or "\t" in text:
        return False
    return cells[0] == "#" or bool(TAG.fullmatch(usual[-1]))
