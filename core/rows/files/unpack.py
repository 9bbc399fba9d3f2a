"""What a file is by its first bytes, and the file inside a compressed one."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from core.rows.faults import fault, shown

CHUNK = 2**20
MAX_DIRECTORY_BYTES = 8 * 2**20  # of a zip: 65,535 entries, each of which Python makes an object of
XZ_BYTES = 128 * 2**20  # of memory: what `xz -9` takes to unpack, twice over
DATA = (".csv", ".tsv", ".tab", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".xlsx", ".conll")
ABOUT = re.compile(r"(readme|licen[cs]e|copying|changelog|notice)\b", re.IGNORECASE)  # files beside the data
TEXT = "save it as CSV (UTF-8), JSON lines or Parquet"

PICTURE = "one picture; pack pictures in a zip, a folder for each class, or give Parquet with their bytes"
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
FOREIGN = {  # first bytes -> what it is, and how to make of it what can be read
    b"%PDF": "a PDF; copy its table into a spreadsheet, and save that as CSV",
    b"\x89PNG": PICTURE,
    b"\xff\xd8\xff": PICTURE,
    b"GIF8": PICTURE,
    b"SQLite format 3": "an SQLite database; export the table: sqlite3 -header -csv FILE 'select * from TABLE'",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Office file (.xls, .doc) or a protected one; save it as .xlsx, "
    "without a password, or as CSV (UTF-8)",
    b"\x89HDF": f"an HDF5 file; read it with pandas, and {TEXT}",
    b"\x93NUMPY": "a NumPy array; write it with pandas: DataFrame(array).to_csv('data.csv', index=False)",
    b"Rar!": "a RAR archive; unpack it, and upload the file inside",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it, and upload the file inside",
    b"Obj\x01": f"an Avro file; {TEXT}",
    b"ORC": f"an ORC file; {TEXT}",
    b"{\\rtf": "a rich text document; save its table as CSV (UTF-8)",
    b"<stata_dta>": f"a Stata file; read it with pandas.read_stata, and {TEXT}",
    b"$FL2": f"an SPSS file; read it with pandas.read_spss, and {TEXT}",
    b"version https://git-lfs": "a pointer of Git LFS, and not the data; fetch it with 'git lfs pull'",
    b"FEA1": "a Feather file of the first version; write it again with a newer pandas, or as Parquet",
}
# Of pages and, without <html>, of what web pages export as "Excel".
MARKUP = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"<table", b"<meta", b"<style", b"<div")


def kind_of(file: Path) -> str:
    """`parquet`, `arrow`, `stream` (Arrow), `zip`, one of PACKED's, or `text`; raises SpecError if it is none."""
    with file.open("rb") as data:
        head = data.read(1024)
    binary = b"\n" not in head or any(byte < 9 for byte in head)
    if head[:4] == b"PAR1" and binary:
        return "parquet"
    if head[:6] == b"ARROW1":
        return "arrow"
    if head[:4] == b"\xff\xff\xff\xff" and len(head) > 8 and head[4:8] != b"\xff\xff\xff\xff":
        return "stream"
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    for magic, packed in PACKED.items():
        if head.startswith(magic):
            return packed
    for magic, what in FOREIGN.items():
        if head.startswith(magic) and (binary or not magic.isalnum()):  # else it may be the name of a column
            raise fault(f"is {what}")
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        raise fault(
            "is a pickle, which may run code when it is read; in Python: pandas.read_pickle(...).to_parquet(...)"
        )
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(MARKUP):
        raise fault(f"is a page of HTML or XML, and not a table (a download that asks to log in gives one); {TEXT}")
    if head[257:262] == b"ustar":
        raise fault("is a tar archive; unpack it, and upload the file inside")
    return "text"


def unpack(packed: Path, kind: str, work: Path, max_bytes: int) -> None:
    """Write what a compressed file holds to `work`; raises SpecError where that is too much, or damaged."""
    import pyarrow as pa

    opened: dict[str, Callable[[Path], AbstractContextManager[Any]]] = {
        "gzip": gzip.open,
        "bzip2": bz2.open,
        "zstd": partial(pa.input_stream, compression="zstd"),
    }
    try:
        if kind == "xz":
            _unpack_xz(packed, work, max_bytes)
        else:
            with opened[kind](packed) as data:
                _copy(data, work, max_bytes)
    except (EOFError, OSError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
        raise fault(f"is not readable as {kind}: is it cut off? ({shown(error)})") from error


def unzip(packed: Path, work: Path, max_bytes: int) -> str:
    """Write the one data file of a zip to `work`, and return its name; '' where the zip is an Excel workbook."""
    check_directory(packed)
    try:
        with zipfile.ZipFile(packed) as archive:
            entries = [e for e in archive.infolist() if not e.is_dir() and not is_hidden(e.filename)]
            names = {e.filename for e in entries}
            if "xl/workbook.xml" in names:
                return ""
            _refuse_foreign(names)
            entries = [e for e in entries if not ABOUT.match(PurePosixPath(e.filename).name)] or entries
            data = [e for e in entries if e.filename.lower().removesuffix(".gz").endswith(DATA)]
            chosen = data if len(data) == 1 else entries
            if len(chosen) != 1:
                listed = ", ".join(f"'{shown(e.filename)}'" for e in (data or entries)[:5])
                raise fault(
                    f"is a zip of {len(chosen)} files ({listed}{', ...' if len(data or entries) > 5 else ''}); "
                    "upload the one to be read"
                    if entries
                    else "is a zip without a file in it"
                )
            if chosen[0].flag_bits & 1:
                raise fault("is a zip with a password; unpack it, and upload the file inside")
            with archive.open(chosen[0]) as inside:
                _copy(inside, work, max_bytes)
            return PurePosixPath(chosen[0].filename).name
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, zlib.error, RuntimeError, ValueError) as error:
        raise _as_fault(error, "is not readable as a zip") from error


def check_directory(packed: Path) -> None:
    """Raise SpecError where a zip lists more entries than an honest one has: Python reads them all at once."""
    with packed.open("rb") as data:
        size = data.seek(0, 2)
        data.seek(max(0, size - 2**16 - 22))
        tail = data.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise fault("is not readable as a zip: is it cut off?")
    if struct.unpack("<I", tail[at + 12 : at + 16])[0] > MAX_DIRECTORY_BYTES or b"PK\x06\x07" in tail[:at][-20:]:
        raise fault(
            "is a zip of too many or too large files; upload the one to be read (of pictures: several zips of at most "
            "65,535, or Parquet with their bytes)"
        )


def _unpack_xz(packed: Path, work: Path, max_bytes: int) -> None:
    size = 0
    with packed.open("rb") as data, work.open("wb") as copy:
        rest = data.read(CHUNK)
        while rest:  # several streams are one file, with zeros between them
            decoder = lzma.LZMADecompressor(memlimit=XZ_BYTES)
            while not decoder.eof:
                given = (rest or data.read(CHUNK)) if decoder.needs_input else b""
                rest = b"" if decoder.needs_input else rest
                if decoder.needs_input and not given:
                    raise EOFError("it ends early")
                size += copy.write(decoder.decompress(given, CHUNK))
                _check_size(size, max_bytes)
            rest = decoder.unused_data.lstrip(b"\0")
            while not rest and (rest := data.read(CHUNK)):
                rest = rest.lstrip(b"\0")


def _copy(data: IO[bytes], work: Path, max_bytes: int) -> None:
    size = 0
    with work.open("wb") as copy:
        while chunk := data.read(CHUNK):
            size += copy.write(chunk)
            _check_size(size, max_bytes)


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise fault(f"unpacks to more than {max_bytes:,} bytes; upload a part of it")


def is_hidden(name: str) -> bool:
    """Whether it, or a folder that it lies in, is what a system left there, and nobody's data."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    left = any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in parts)
    return left or (bool(parts) and parts[-1].lower() == "thumbs.db")


def _refuse_foreign(names: set[str]) -> None:
    known = {
        "word/document.xml": "is a Word document; save its table as CSV (UTF-8)",
        "ppt/presentation.xml": "is a presentation; save its table as CSV (UTF-8)",
        "xl/workbook.bin": "is a binary workbook (.xlsb); save it as .xlsx or CSV (UTF-8)",
        "content.xml": "is an OpenDocument file; save it as .xlsx or CSV (UTF-8)",
    }
    for name, what in known.items():
        if name in names:
            raise fault(what)
    if any(name.endswith("data.pkl") for name in names):
        raise fault("is a checkpoint of PyTorch, and no table")
    if names and all(name.endswith(".npy") for name in names):
        raise fault(f"is an archive of NumPy arrays; {TEXT}")


def _as_fault(error: Exception, what: str) -> Exception:
    from core.spec.errors import SpecError

    return error if isinstance(error, SpecError) else fault(f"{what}: {shown(error)}")
