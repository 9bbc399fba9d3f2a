"""Columns of pictures in Parquet and Arrow files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from tests.rows.helpers import LIMITS, arrow, parquet, refused, take
from tests.rows.image.made import drawn, hub_table, saved

PICTURES = {f"{number}.png": saved(drawn(number)) for number in range(40)}


def test_the_hubs_image_with_names_of_classes(tmp_path: Path) -> None:
    labels = [number % 2 for number in range(40)]
    result = take(tmp_path, hub_table(PICTURES, labels, ["cat", "dog"]), "train-00000-of-00001.parquet")
    assert result.types == {"image": "picture", "label": "classes"}
    assert result.values == {"image": {}, "label": {"cat": 20, "dog": 20}}
    assert [picture.name for picture in result.columns["image"]] == [*PICTURES]
    assert len({picture.digest for picture in result.columns["image"]}) == 40
    shown = result.preview[0]["image"]
    assert shown | {"thumbnail": ""} == {"path": "0.png", "format": "PNG", "width": 24, "height": 16, "thumbnail": ""}


@pytest.mark.parametrize(
    "column",
    [
        pa.array([*PICTURES.values()], pa.binary()),
        pa.array([*PICTURES.values()], pa.large_binary()),
        pa.array([None, *PICTURES.values()][:-1], pa.binary()),
        pa.array([*PICTURES.values()], pa.binary()).dictionary_encode(),
        pa.array([*PICTURES.values()], pa.binary_view()),
        pa.array([{"bytes": data, "path": None} for data in PICTURES.values()]),
        pa.array([None, *[{"path": path, "bytes": data} for path, data in PICTURES.items()][1:]]),
    ],
    ids=["binary", "large", "empty cell", "dictionary", "view", "struct without paths", "struct with an empty cell"],
)
@pytest.mark.parametrize("form", ["parquet", "arrow", "stream"])
def test_bytes_are_pictures_however_they_are_kept(tmp_path: Path, column: pa.Array, form: str) -> None:
    table = pa.table({"photo": column, "other": [b"\xff\xfe"] * 40, "label": ["a", "b"] * 20})
    if form == "parquet" and pa.types.is_binary_view(column.type):
        pytest.skip("Parquet has no views")
    data = parquet(table) if form == "parquet" else arrow(table, stream=form == "stream")
    result = take(tmp_path, data, "x.parquet")
    empty = column.null_count
    assert result.types == {"photo": "picture", "label": "text"} and result.empty["photo"] == empty
    assert "UTF-8" in result.skipped["other"]
    found = [picture for picture in result.columns["photo"] if picture is not None]
    assert len(found) == 40 - empty and {picture.width for picture in found} == {24}
    assert [row["photo"] is None for row in result.preview].count(True) == (1 if empty else 0)


def test_several_files_are_one_column(tmp_path: Path) -> None:
    halves = [dict([*PICTURES.items()][part]) for part in (slice(20), slice(20, None))]
    result = take(tmp_path, [hub_table(half, [0] * 20) for half in halves], "x.parquet")
    assert [picture.row for picture in result.columns["image"]] == [*range(40)]
    message = refused(tmp_path, [hub_table(PICTURES), parquet(pa.table({"image": ["a.png"]}))], "x.parquet")
    assert "column 'image' holds pictures in some parts, and other cells elsewhere" in message


def test_a_bad_picture_is_named_by_its_row(tmp_path: Path) -> None:
    bad = PICTURES | {"17.png": PICTURES["17.png"][:50]}
    message = refused(tmp_path, hub_table(bad), "x.parquet")
    assert message.startswith("has a picture that cannot be read: row 18 ('17.png') is damaged or cut off")
    plain = parquet(pa.table({"image": [saved(drawn()), b"nothing"]}))
    assert "row 2 is no picture that is read" in refused(tmp_path, plain, "x.parquet")
    message = refused(tmp_path, [hub_table(PICTURES), hub_table(bad)], "x.parquet")
    assert message.startswith("file 2 of 2: has a picture that cannot be read: row 18 ('17.png')")


@pytest.mark.parametrize("binary", [True, False])
def test_names_without_bytes_are_left_out_and_told(tmp_path: Path, binary: bool) -> None:
    kind = pa.struct({"bytes": pa.binary() if binary else pa.null(), "path": pa.string()})
    cells = [{"bytes": None, "path": f"https://example.org/{number}.png"} for number in range(3)]
    table = pa.table({"image": pa.array(cells, kind), "label": ["a", "b", "c"]})
    result = take(tmp_path, parquet(table), "x.parquet")
    assert [*result.columns] == ["label"]
    assert "names pictures ('https://example.org/0.png' in row 1) and has not their bytes" in result.skipped["image"]
    assert "a zip with a folder for each class" in result.skipped["image"]


@pytest.mark.field("3. Under attack", "one large picture in each of many rows of a small file", "refused by its bytes")
def test_a_picture_that_each_row_shares_counts_each_time(tmp_path: Path) -> None:
    large = saved(drawn(1, 200, 200), "BMP")
    table = parquet(pa.table({"image": pa.array([{"bytes": large, "path": "a.bmp"}] * 300)}))
    limits = replace(LIMITS, max_bytes=2**24)
    assert len(table) < 2 * len(large) and 300 * len(large) > 2**25
    assert "takes more than 16,777,216 bytes once unpacked" in refused(tmp_path, table, "x.parquet", limits=limits)
