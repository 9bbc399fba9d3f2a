"""Reads a file of any known kind into one Parquet table of plain, typed columns."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from core.rows.faults import fault, shown
from core.rows.files import conll, delimited, objects, sheets, tables, unpack
from core.rows.files import image_folder as pictures
from core.rows.files.asked import Asked, Limits
from core.rows.files.encoding import decode
from core.rows.files.gather import MAX_SKIPPED, Gathered
from core.rows.files.understood import Skipped, Understood
from core.spec.errors import SpecError

__all__ = ["Asked", "Limits", "read"]

SAMPLE_CHARS = 2**16
NOTHING = Asked()
ENDINGS = {  # what a name says
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".xlsx": "xlsx",
    **dict.fromkeys(conll.ENDINGS, "conll"),
}
WORDS = {
    "csv": "delimited text",
    "json": "JSON",
    "jsonl": "JSON lines",
    "parquet": "Parquet",
    "arrow": "Arrow",
    "xlsx": "an Excel workbook",
    "conll": "CoNLL",
    "imagefolder": "a folder of pictures",
}
SIGNS = {"\t": "tabs", ";": "semicolons (';')", ",": "commas (',')", "|": "bars ('|')"}
PACKED_ENDINGS = {".gz", ".bz2", ".xz", ".zst", ".zip"}


@dataclass(frozen=True)
class _Found:
    """What one file turned out to be."""

    kind: str
    compression: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None


def read(
    files: Sequence[Path],
    name: str,
    target: Path,
    limits: Limits,
    asked: Asked = NOTHING,
    class_names: Mapping[str, Sequence[str]] | None = None,
) -> Understood:
    """Read files of one kind, one after the other, into `target`; `name` is what the user calls them.

    `class_names` are those of columns of whole numbers, which a hub's card may give. Files are unpacked beside
    `target`.

    Raises SpecError('/file') that says what is wrong, in which row and line as a person counts them, and the mend.
    """
    folder = Path(tempfile.mkdtemp(prefix="reading-", dir=target.parent))
    try:
        with Gathered(folder, limits) as gathered:
            found = [_one(file, name, at, len(files), gathered, asked, folder) for at, file in enumerate(files, 1)]
            if len({one.kind for one in found} - {"json"}) > 1:
                raise fault(f"is several kinds of files: {', '.join(sorted({WORDS[one.kind] for one in found}))}")
            for column, names in (class_names or {}).items():  # where a file says it itself, that holds
                gathered.names.setdefault(column, names)
            columns = gathered.write(target)
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, MemoryError):  # Arrow's is one, too
            raise fault("takes more memory than there is for reading; upload a part of it") from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    first = found[0]
    skipped = [Skipped(shown(column, 200), why) for column, why in gathered.skipped.items()]
    return Understood(
        kind=first.kind,
        rows=gathered.rows,
        columns=columns,
        skipped=skipped[:MAX_SKIPPED],
        compression=first.compression,
        encoding=first.encoding,
        delimiter=first.delimiter,
        header=first.header,
        notes=[_how(first), *gathered.notes],
        asked=asked,
    )


def _how(found: _Found) -> str:
    """The first sentence: as what a file was read."""
    facts = [f"packed as {found.compression}"] if found.compression else []
    facts += [found.encoding] if found.encoding else []
    facts += [f"{SIGNS.get(found.delimiter, repr(found.delimiter))} between cells"] if found.delimiter else []
    if found.header is not None:
        facts.append("its first line names the columns" if found.header else "no line names the columns")
    return f"Read as {WORDS[found.kind]}{': ' if facts else ''}{', '.join(facts)}."


def _one(file: Path, name: str, number: int, count: int, gathered: Gathered, asked: Asked, folder: Path) -> _Found:
    """Read one file."""
    work = [folder / f"{step}-{number}" for step in ("unpacked", "text")]
    try:
        found = _read(file, name, gathered, asked, folder, *work)
        gathered.check_pictures()
        return found
    except SpecError as error:
        where = f"file {number} of {count}: " if count > 1 else ""
        raise fault(f"{where}{error.message}") from error
    except RecursionError as error:
        raise fault("is nested too deeply") from error
    finally:
        for path in work:
            path.unlink(missing_ok=True)


def _read(
    file: Path, name: str, gathered: Gathered, asked: Asked, folder: Path, unpacked: Path, decoded: Path
) -> _Found:
    if not file.stat().st_size:
        raise fault("is empty")
    kind, compression = unpack.kind_of(file), None
    if kind == "zip" and pictures.is_folder(file):
        pictures.read(file, gathered, folder, partial(_described, asked=asked, folder=folder, decoded=decoded))
        return _Found("imagefolder", "zip")
    if kind == "zip":
        if inner := unpack.unzip(file, unpacked, gathered.limits.max_bytes):
            name, compression, file = inner, "zip", unpacked
        else:
            kind = "xlsx"
    elif kind in unpack.PACKED.values():
        unpack.unpack(file, kind, unpacked, gathered.limits.max_bytes)
        name, compression, file = _without_ending(name), kind, unpacked
    if compression is not None:
        if not file.stat().st_size:
            raise fault("is empty once unpacked")
        kind = unpack.kind_of(file)
        if kind == "zip" and unpack.unzip(file, file.with_suffix(".inner"), gathered.limits.max_bytes) == "":
            kind = "xlsx"
        elif kind == "zip" or kind in unpack.PACKED.values():
            raise fault("is an archive in an archive; unpack it, and upload the file inside")
    found = _Found(kind if kind != "stream" else "arrow", compression)
    if kind == "parquet":
        tables.read_parquet(file, gathered)
    elif kind in ("arrow", "stream"):
        tables.read_arrow(file, kind == "stream", gathered)
    elif kind == "xlsx":
        found = _Found(kind, compression, header=sheets.read(file, gathered, asked))
    else:
        found = _read_text(file, name, gathered, asked, folder, decoded, compression)
    said = ENDINGS.get(PurePosixPath(name).suffix.lower())
    if said is not None and said != found.kind and {said, found.kind} != {"json", "jsonl"}:
        gathered.note(f"Its name says {WORDS[said]}, but it is {WORDS[found.kind]}, and was read as that.")
    elif said == "jsonl" and found.kind == "json":
        gathered.note("Its name says JSON lines, but it is one JSON value, and was read as that.")
    return found


def _read_text(
    file: Path, name: str, gathered: Gathered, asked: Asked, folder: Path, decoded: Path, compression: str | None
) -> _Found:
    text = decode(file, decoded, asked.encoding, gathered.limits.max_bytes)
    if text.note is not None:
        gathered.note(text.note)
    with text.path.open(encoding="utf-8", newline="\n") as data:
        sample = data.read(SAMPLE_CHARS)
    ending = PurePosixPath(name).suffix.lower()
    said = ENDINGS.get(ending)
    if objects.begins_json(sample) or (said in ("json", "jsonl") and not _is_table(sample)):
        kind = objects.read(text.path, gathered, lines=said == "jsonl", header=asked.header)
        return _Found(kind, compression, text.encoding)
    if said == "conll" or (ending != ".csv" and asked.delimiter is None and conll.is_conll(sample)):
        conll.read(text.path, gathered)
        return _Found("conll", compression, text.encoding)
    layout = delimited.read(text, gathered, asked, folder)
    delimiter = layout.dialect.delimiter if layout.width > 1 else None
    return _Found("csv", compression, text.encoding, delimiter, layout.names is not None)


def _described(file: Path, name: str, gathered: Gathered, asked: Asked, folder: Path, decoded: Path) -> None:
    """Read the table that lies beside pictures."""
    if unpack.kind_of(file) == "parquet":
        tables.read_parquet(file, gathered)
    else:
        _read_text(file, name, gathered, asked, folder, decoded, None)


def _is_table(sample: str) -> bool:
    """Whether a text that is named JSON is none: it begins with a word, and a delimiter follows."""
    first = sample.lstrip().partition("\n")[0]
    return bool(first) and first[0] not in '{["0123456789-' and any(sign in first for sign in delimited.DELIMITERS)


def _without_ending(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in PACKED_ENDINGS else path.name
