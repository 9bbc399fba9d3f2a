"""The archive: any part of it, the same bytes each time, and every tool reads it."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.http import zip as zips
from api.http.zip import Archive, Entry

CONTENTS = {"a": b"x", "empty": b"", "sub/na\u00efve \u540d.bin": bytes(range(256)) * 40, "z" * 200: b"last"}


def entry(path: str, content: bytes) -> Entry:
    def read(start: int, end: int) -> Iterator[bytes]:
        for place in range(start, end, 100):
            yield content[place : min(place + 100, end)]

    return Entry(path, len(content), f"of {path}", read)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "_known", {})


def whole(archive: Archive) -> bytes:
    return b"".join(archive.read(0, archive.size))


def test_it_is_a_zip() -> None:
    archive = Archive([entry(*one) for one in CONTENTS.items()])
    content = whole(archive)
    assert len(content) == archive.size
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert opened.testzip() is None
        assert {name: opened.read(name) for name in opened.namelist()} == CONTENTS
        assert {info.date_time for info in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    empty = Archive([])
    assert zipfile.ZipFile(io.BytesIO(whole(empty))).namelist() == []


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_any_part_is_that_of_the_whole(seed: int) -> None:
    zips._known.clear()
    archive = Archive([entry(*one) for one in CONTENTS.items()])
    content = whole(Archive([entry(*one) for one in CONTENTS.items()]))
    rng = random.Random(seed)
    start = rng.randrange(archive.size)
    end = rng.randint(start + 1, archive.size)
    zips._known.clear()
    assert b"".join(archive.read(start, end)) == content[start:end]


def test_what_is_read_for_a_checksum_is_read_as_long_as_somebody_waits() -> None:
    asked = []

    def read(start: int, end: int) -> Iterator[bytes]:
        for place in range(start, end):
            asked.append(place)
            yield b"x"

    archive = Archive([Entry("a", 1000, "of a", read), Entry("b", 1000, "of b", read)])
    last = archive.read(archive.size - 1, archive.size)
    assert [next(last) for _ in range(3)] == [b""] * 3 and len(asked) == 3
    last.close()  # type: ignore[attr-defined]
    assert len(asked) == 3 and not zips._known
    assert b"".join(archive.read(archive.size - 1, archive.size)) == whole(archive)[-1:]


def test_files_over_4_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    """The format's other form, on small files."""
    monkeypatch.setattr(zips, "ZIP64_LIMIT", 300)
    archive = Archive([entry(*one) for one in CONTENTS.items()])
    content = whole(archive)
    assert len(content) == archive.size
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == CONTENTS
    assert content[-22 - 20 : -22 - 16] == b"PK\x06\x07"
    assert struct.unpack("<4s4H2LH", content[-22:])[6] == 0xFFFFFFFF
