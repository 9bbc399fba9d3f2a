"""CoNLL: a word and its tag a line, with a blank line between sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

from core.rows.faults import fault, place
from core.rows.files.gather import Gathered

ENDINGS = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".bioes")
ENTITY = re.compile(r"O|[BIESLU]-\S+")
TAG = re.compile(r"O|[BIESLU](-\S+)?")  # where entities are of one kind, its name may be left out (BioBERT)
BATCH_WORDS = 200_000
MAX_LINE_CHARS = 2**20
BLANK = " \t\r\n"  # other white space may be a word, or be in one
SAMPLE_LINES = 2000
UNIVERSAL, NUMBERED = 10, re.compile(r"\d+([-.]\d+)?")  # columns of CoNLL-U, and how it numbers words
UNWRITTEN = re.compile(r"\d+[-.]\d+")  # a range of words that are written as one, or a word that is not written


@dataclass(frozen=True)
class Columns:
    """Where words and tags are, from 0; whether the first column numbers the words; and what to say of it."""

    word: int
    tag: int
    numbered: bool = False
    note: str | None = None


def is_conll(sample: str) -> bool:
    """Whether a text is a word and a tag a line, with blank lines between sentences of which some have several."""
    lines = sample.split("\n")[:SAMPLE_LINES]
    sentences = _split([cells for _, cells in _rows(lines, _first_word(lines))])
    words = [cells for sentence in sentences for cells in sentence]
    tags = {cells[at] for at in _tagged(words) for cells in words if len(cells) > at}
    return 1 < len(sentences) < len(words) and "O" in tags


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
    begun, row, width = 1, 1, 0
    like = _first_word(_lines(path))
    columns = _columns([cells for _, cells in islice(_rows(_lines(path), like), SAMPLE_LINES)])
    if columns.note:
        gathered.note(columns.note)
    for number, cells in _rows(_lines(path), like):
        if cells:
            width = width or len(cells)
            if len(cells) < 2 or len(cells) != width:
                raise fault(
                    f"{place(row, number)}: {len(cells)} {'cell' if len(cells) == 1 else 'cells'}, where other "
                    f"lines have {max(2, width)}: a line is a word and its tag"
                )
            begun = begun if found else number
            if not (columns.numbered and UNWRITTEN.fullmatch(cells[0])):
                found.append((cells[columns.word], cells[columns.tag]))
        elif found:
            yield begun, found
            found, row = [], row + 1
    if found:
        yield begun, found


def _columns(rows: Sequence[list[str]]) -> Columns:
    """Where words and tags are, by the first lines; an empty row stands between sentences."""
    sentences = _split(rows)
    words = [cells for sentence in sentences for cells in sentence]
    width = len(words[0]) if words else 0
    numbered = width > 2 and all(map(_counts, sentences)) and len(words) > len(sentences)
    if width == UNIVERSAL and (numbered or all(NUMBERED.fullmatch(cells[0]) for cells in words)):
        return Columns(1, 3, True, "It is CoNLL-U: the tags are the fourth column, universal parts of speech (UPOS).")
    word, tagged = int(numbered), _tagged(words)
    if tags := [at for at in tagged if at > word]:
        # Of several, numbered words have those of outer entities first (GermEval); else chunks come before entities.
        tag = tags[0] if numbered else tags[-1]
    elif tagged == [0]:
        word, tag = 1, 0
    else:
        tag = width - 1
    note = f"Its words are column {word + 1} and its tags column {tag + 1} of {width}"
    if len(tags) > 1:
        which = "the first, as the words are numbered" if numbered else "the last"
        note += f"; columns {', '.join(str(at + 1) for at in tags)} hold tags, of which {which}, was taken"
    if not tagged:
        note += ": no column holds tags of entities (O, B-x, I-x)"
    return Columns(word, tag, numbered, f"{note}." if width > 2 or tag == 0 or not tagged else None)


def _split(rows: Sequence[list[str]]) -> list[list[list[str]]]:
    return [list(some) for filled, some in groupby(rows, bool) if filled]


def _counts(sentence: Sequence[list[str]]) -> bool:
    """Whether the first column counts the words from 1."""
    numbers = [cells[0] for cells in sentence if not UNWRITTEN.fullmatch(cells[0])]
    return numbers == [str(at) for at in range(1, len(numbers) + 1)]


def _tagged(rows: Sequence[list[str]]) -> list[int]:
    """The columns that hold tags of entities."""
    width = len(rows[0]) if rows and len(rows[0]) > 1 else 0
    return [
        at
        for at in range(width)
        if sum(len(cells) > at and bool(TAG.fullmatch(cells[at])) for cells in rows) > 0.95 * len(rows)
    ]


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as data:
        yield from iter(lambda: data.readline(MAX_LINE_CHARS), "")


def _rows(lines: Iterable[str], like: str) -> Iterator[tuple[int, list[str]]]:
    """The number of each line and its cells, none where it is blank; without comments, and marks of documents."""
    inside = False
    for number, line in enumerate(lines, 1):
        text = line.strip(BLANK)
        if text.startswith("-DOCSTART-") or (text.startswith("#") and _is_comment(text, like, inside)):
            continue
        inside = bool(text.strip())
        yield number, _cells(line) if inside else []


def _cells(line: str) -> list[str]:
    text = line.strip(BLANK)
    return [cell.strip(BLANK) for cell in line.split("\t")] if "\t" in text else re.split(" +", text)


def _first_word(lines: Iterable[str]) -> str:
    """The first line with a word that begins with no '#'."""
    return next((line for line in lines if line.strip() and not line.lstrip().startswith(("-DOCSTART-", "#"))), "")


def _is_comment(text: str, like: str, inside: bool) -> bool:
    """Whether '#' begins a comment, and is no word with a tag, as the line `like` is; `inside`: of a sentence.

    Before a sentence words between spaces may be either: a tag by IOB tells, or that all tags are other ones.
    """
    cells, usual = _cells(text), _cells(like)
    tagged = bool(ENTITY.fullmatch(cells[-1]))
    if ("\t" in text) != ("\t" in like.strip(BLANK)):
        return True
    if len(cells) != len(usual):
        return not tagged or len(cells) > 4
    if inside or tagged or "\t" in text:
        return False
    return cells[0] == "#" or bool(ENTITY.fullmatch(usual[-1]))
