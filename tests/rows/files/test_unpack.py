"""Files in files, by their first bytes and not by their names; bombs, damage, and what is no table."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pyarrow as pa
import pytest

from core.rows.files import unpack
from core.rows.files.read import Limits
from tests.rows.helpers import parquet, refused, take

TABLE = "text,label\ngood,pos\nbad,neg\n"
ROWS = [{"text": "good", "label": "pos"}, {"text": "bad", "label": "neg"}]
SMALL = Limits(100_000, 1000, 9, 1000)


def zipped(*entries: tuple[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return out.getvalue()


PACKED = {
    "gzip": gzip.compress(TABLE.encode()),
    "bzip2": bz2.compress(TABLE.encode()),
    "xz": lzma.compress(TABLE.encode()),
    "zstd": pa.compress(TABLE.encode(), "zstd", asbytes=True),
    "zip": zipped(("a.csv", TABLE)),
}


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("name", ["data.csv.gz", "data.csv"])
def test_packed_files_are_read_whatever_their_name(tmp_path, kind, name):
    result = take(tmp_path, PACKED[kind], name)
    assert result.rows == ROWS and result.understood.compression == kind


def test_the_name_inside_counts(tmp_path):
    assert take(tmp_path, gzip.compress(b'{"a": 1}\n'), "x.jsonl.gz").understood.kind == "jsonl"
    assert take(tmp_path, gzip.compress(parquet(pa.table({"a": [1]}))), "x.parquet.gz").understood.kind == "parquet"
    assert take(tmp_path, gzip.compress(TABLE.encode()) + gzip.compress(b"so,so\n"), "x.gz").understood.rows == 3


def test_a_zip_of_one_data_file(tmp_path):
    beside = [("__MACOSX/._a.csv", "x"), (".DS_Store", "x"), ("README.txt", "About"), ("LICENSE", "MIT")]
    assert take(tmp_path, zipped(("d/a.csv", TABLE), *beside), "x.zip").rows == ROWS
    assert take(tmp_path, zipped(("SMSSpam", TABLE), ("readme", "x")), "x.zip").rows == ROWS
    assert "a zip of 2 files ('train.csv', 'test.csv')" in refused(
        tmp_path, zipped(("train.csv", TABLE), ("test.csv", TABLE)), "x.zip"
    )
    assert "without a file" in refused(tmp_path, zipped(), "x.zip")


def test_archives_in_archives_are_refused(tmp_path):
    for data in (
        gzip.compress(PACKED["gzip"]),
        zipped(("a.zip", PACKED["zip"])),
        zipped(("a.csv.gz", PACKED["gzip"])),
    ):
        assert "an archive in an archive" in refused(tmp_path, data, "x")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.csv"), io.BytesIO())
    assert "a tar archive" in refused(tmp_path, out.getvalue(), "x.tar.gz")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, lambda data: zipped(("a.csv", data))])
def test_bombs_are_cut_off(tmp_path, pack):
    message = refused(tmp_path, pack(b"a,b\n" * 100_000), "x.csv", limits=SMALL)
    assert message == "unpacks to more than 100,000 bytes; upload a part of it"


@pytest.mark.parametrize("kind", PACKED)
def test_what_is_cut_off_is_told(tmp_path, kind):
    assert "cut off" in refused(tmp_path, PACKED[kind][:-9], "x.csv")


def test_a_zip_of_too_many_entries_is_not_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "MAX_DIRECTORY_BYTES", 2**20)
    many = zipped(*((f"{'d' * 200}/{number}", "") for number in range(5000)))
    assert "too many" in refused(tmp_path, many, "x.zip")


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"%PDF-1.7", "a PDF"),
        (b"\x89PNG\r\n\x1a\n", "one picture; pack pictures in a zip"),
        (b"\x80\x04\x95", "a pickle"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "save it as .xlsx"),
        (b"  <!DOCTYPE html><html>", "HTML"),
        (b'<table border="1">\n<tr><th>text</th></tr>\n', "HTML"),
        (b'<meta charset="utf-8">\n<table>\n', "HTML"),
        (b"<style>td {}</style>\n", "HTML"),
        (b'<div class="x">\n<table>\n', "HTML"),
        (b"SQLite format 3\0", "SQLite"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    ],
)
def test_what_is_no_table_is_named_with_the_mend(tmp_path, start, words):
    assert words in refused(tmp_path, start + bytes(600), "data.csv")


def test_other_documents_in_zips_are_named(tmp_path):
    assert "Word document" in refused(tmp_path, zipped(("word/document.xml", "x")), "x.docx")
    assert "PyTorch" in refused(tmp_path, zipped(("archive/data.pkl", "x")), "x.pt")


def test_an_xz_of_several_streams_is_read_to_its_end(tmp_path):
    whole = lzma.compress(TABLE.encode()) + b"\0" * 8 + lzma.compress(b"so,so\n") + b"\0" * 4
    assert take(tmp_path, whole, "x.csv.xz").understood.rows == 3
    assert "xz" in refused(tmp_path, lzma.compress(TABLE.encode()) + b"more", "x.csv.xz")


@pytest.mark.parametrize("name", ["ORCID", "FEA1", "PAR1"])
def test_a_column_may_be_called_as_a_binary_file_begins(tmp_path, name):
    assert take(tmp_path, f"{name},label\ngood,pos\nbad,neg\n", "x.csv").columns == {
        name: ["good", "bad"],
        "label": ["pos", "neg"],
    }
