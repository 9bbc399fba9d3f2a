"""Zips of pictures: classes by folder, or a table beside them."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path

import pytest

from core.rows.files.read import Asked, Limits, read
from core.rows.image.picture import read_bytes
from core.rows.table import read_columns
from core.spec.errors import SpecError
from tests.rows.helpers import LIMITS, Read, refused, take
from tests.rows.image.made import drawn, folders, hub_table, saved, zipped

PETS = folders({"cat": 3, "dog": 2})


def labels(result: Read) -> list[str | None]:
    return list(result.columns["label"])


def test_folders_are_classes_and_bytes_stay_as_they_were(tmp_path: Path) -> None:
    upload, table = tmp_path / "upload", tmp_path / "table.parquet"
    upload.write_bytes(zipped(PETS))
    understood = read([upload], "pets.zip", table, LIMITS, Asked())
    assert understood.kind == "imagefolder" and understood.rows == 5
    assert [(one.name, one.type) for one in understood.columns] == [("image", "picture"), ("label", "text")]
    assert understood.columns[1].values == {"cat": 3, "dog": 2}
    assert "Column 'image': 5 pictures (5 PNG) of 24 x 16 pixels." in understood.notes
    pictures = list(read_columns(table)["image"].values)
    assert [picture.name for picture in pictures] == [*PETS] and pictures[0].file == table
    assert dict(read_bytes(pictures[::-1])) == dict(enumerate([*PETS.values()][::-1]))


def test_pictures_lie_in_groups_of_which_one_is_read_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.rows.files.gather.GROUP_ROWS", 4)
    monkeypatch.setattr("core.rows.files.image_folder.BATCH_PICTURES", 2)
    upload, table = tmp_path / "upload", tmp_path / "table.parquet"
    files = folders({"a": 5, "b": 6})
    upload.write_bytes(zipped(files))
    read([upload], "x.zip", table, LIMITS, Asked())
    pictures = list(read_columns(table)["image"].values)
    some = [pictures[at] for at in (10, 0, 5, 4)]
    assert dict(read_bytes(some)) == {at: files[picture.name] for at, picture in enumerate(some)}


@pytest.mark.parametrize(
    ("files", "said", "note"),
    [
        ({"pets/": "", **{f"pets/{name}": data for name, data in PETS.items()}}, ["cat"] * 3 + ["dog"] * 2, ""),
        ({name.replace("/", "\\"): data for name, data in PETS.items()}, ["cat"] * 3 + ["dog"] * 2, ""),
        ({f"./{name}": data for name, data in PETS.items()}, ["cat"] * 3 + ["dog"] * 2, ""),
        (
            {f"animals/{name}": data for name, data in PETS.items()} | {"things/cup/1.png": saved(drawn(9))},
            ["cat"] * 3 + ["dog"] * 2 + ["cup"],
            "the innermost is taken as the class ('cat', 'cup', 'dog')",
        ),
        (PETS | {"loose.png": saved(drawn(9))}, ["cat"] * 3 + ["dog"] * 2 + [None], "have no label: 1 ('loose.png')"),
        (PETS | {"empty/": ""}, ["cat"] * 3 + ["dog"] * 2, "No pictures are in the folder 'empty'"),
        (
            PETS | {"README.md": "x", "cat/Thumbs.db": "x", "__MACOSX/cat/._0.png": "x", "cat/.DS_Store": "x"},
            ["cat"] * 3 + ["dog"] * 2,
            "left out: 1 of .md ('README.md')",
        ),
        (
            {"cat\\._0.png": "x", "pets/__MACOSX/._1.png": "x", ".ipynb_checkpoints/": ""}
            | {f"{folder}.ipynb_checkpoints/0-checkpoint.png": saved(drawn(9)) for folder in ("", "cat/", "dog\\")}
            | PETS,
            ["cat"] * 3 + ["dog"] * 2,
            "",
        ),
        (
            folders({"cat": 6, "dog": 6}) | {"labels.csv": "file,label\n"},
            ["cat"] * 6 + ["dog"] * 6,
            "name one metadata.csv",
        ),
    ],
    ids=[
        "in a folder",
        "backslashes",
        "dots",
        "nested",
        "loose",
        "empty",
        "others",
        "hidden",
        "a table of another name",
    ],
)
def test_what_says_the_class(tmp_path: Path, files: dict[str, bytes], said: list[str | None], note: str) -> None:
    result = take(tmp_path, zipped(files), "x.zip")
    assert labels(result) == said and note in result.notes


@pytest.mark.parametrize(
    ("encoding", "classes"),
    [
        ("cp932", "犬 猫"),
        ("cp932", "表 ソファ 机"),  # the second byte of 表 is a backslash
        ("cp932", "表.机 猫"),
        ("cp866", "собака кошка Яблоко"),
        ("cp1251", "собака кошка"),
        ("cp850", "café thé pão niño"),
        ("cp850", "Hüte Schläger Straße"),
        ("cp1252", "café thé Hüte"),
        ("cp949", "사과 바나나"),
        ("gbk", "苹果 香蕉"),
        ("big5", "蘋果 香蕉"),
        ("utf-8", "犬 café кошка"),
    ],
)
def test_names_that_windows_wrote_in_its_own_encoding(tmp_path: Path, encoding: str, classes: str) -> None:
    files, data = [(f"{name}/{n}.png", saved(drawn(n))) for n, name in enumerate(classes.split())], io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for number, (name, picture) in enumerate(files):  # Python writes UTF-8 alone: a name of as many bytes stands in
            archive.writestr(f"{number}".ljust(len(name.encode(encoding)), "_"), picture)
    packed = data.getvalue()
    for number, (name, _) in enumerate(files):
        packed = packed.replace(f"{number}".ljust(len(name.encode(encoding)), "_").encode(), name.encode(encoding))
    result = take(tmp_path, packed, "x.zip")
    assert labels(result) == classes.split()
    assert (f"read as {encoding.upper()}: if they are wrong" in result.notes) == (encoding != "utf-8")


def test_splits_of_folders_are_a_column(tmp_path: Path) -> None:
    files = {f"data/{part}/{name}": data for part in ("train", "test") for name, data in PETS.items()}
    result = take(tmp_path, zipped(files), "x.zip")
    assert labels(result) == (["cat"] * 3 + ["dog"] * 2) * 2
    assert result.columns["split"] == ["train"] * 5 + ["test"] * 5
    one = take(tmp_path, zipped({f"train/{name}": data for name, data in PETS.items()}), "x.zip")
    assert one.values["label"] == {"cat": 3, "dog": 2} and one.values["split"] == {"train": 5}


def test_pictures_of_one_folder_have_no_label(tmp_path: Path) -> None:
    for files in (folders({"all": 4}), {f"{number}.png": saved(drawn(number)) for number in range(4)}):
        result = take(tmp_path, zipped(files), "x.zip")
        assert [*result.columns] == ["image"] and "nothing says their classes" in result.notes


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("metadata.csv", "file_name,label,price\nb.png,x,7\nsub/a.png,y,8\n"),
        ("in/metadata.csv", "file_name;label;price\nb.png;x;7\nsub\\a.png;y;8\n"),
        (
            "metadata.jsonl",
            '{"file_name": "b.png", "label": "x", "price": 7}\n{"file_name": "sub/a.png", "label": "y", "price": 8}',
        ),
    ],
)
def test_a_table_beside_pictures_says_their_columns(tmp_path: Path, name: str, table: str) -> None:
    base = name.rpartition("/")[0] + "/" * ("/" in name)
    pictures = {f"{base}sub/a.png": saved(drawn(1)), f"{base}b.png": saved(drawn(2)), f"{base}c.png": saved(drawn(3))}
    result = take(tmp_path, zipped(pictures | {name: table}), "x.zip")
    assert [picture.name for picture in result.columns["image"]] == [f"{base}b.png", f"{base}sub/a.png"]
    assert labels(result) == ["x", "y"] and [str(value) for value in result.columns["price"]] == ["7", "8"]
    assert f"left out: 1 ('{base}c.png')" in result.notes


@pytest.mark.parametrize("said", ["in/café.png", "./in/cafe\u0301.png", "in/../in/café.png"])
def test_names_of_pictures_may_be_spelled_another_way(tmp_path: Path, said: str) -> None:
    files = {"in/cafe\u0301.png": saved(drawn(1)), "metadata.csv": f"file_name,label\n{said},x\n"}
    assert labels(take(tmp_path, zipped(files), "x.zip")) == ["x"]
    files["in/café.png"] = saved(drawn(2))
    assert labels(take(tmp_path, zipped(files), "x.zip")) == ["x"]


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({f"{part}/metadata.csv": "file_name,label\na.png,x\n" for part in ("train", "val")}, ["train", "validation"]),
        ({"metadata.csv": "file_name,label\nval/a.png,x\ntrain/a.png,x\n"}, ["validation", "train"]),
        (
            {
                "train/metadata.csv": "file_name,label,split\na.png,x,test\n",
                "val/metadata.csv": "file_name,label\na.png,x\n",
            },
            ["test", None],
        ),
    ],
    ids=["a table each", "one table", "a table that says it"],
)
def test_splits_of_folders_are_a_column_beside_tables(
    tmp_path: Path, tables: dict[str, str], said: list[str | None]
) -> None:
    files = {name: saved(drawn(i)) for i, name in enumerate(("train/a.png", "val/a.png", "left.png"))}
    assert take(tmp_path, zipped(files | tables), "x.zip").columns.get("split") == said


def test_a_column_that_is_empty_in_one_table_is_kept_of_the_others(tmp_path: Path) -> None:
    line = '{"file_name": "a.png", "label": %s, "x": null}'
    files = {f"{part}/a.png": saved(drawn(i)) for i, part in enumerate(("test", "train"))}
    tables = {"test/metadata.jsonl": line % "null", "train/metadata.jsonl": line % '"cat"'}
    result = take(tmp_path, zipped(files | tables), "x.zip")
    assert labels(result) == [None, "cat"] and result.skipped == {"x": "is empty"}


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("name,label\na.png,x\n", "'metadata.csv' has no column 'file_name'"),
        ("file_name,label\na.png,x\nb.png,y\n", "'metadata.csv', row 2: names 'b.png', which is no picture in the zip"),
        ("file_name,label\na.png,x\n,y\n", "row 2: has no 'file_name'"),
        ("file_name,label\n../a.png,x\n", "row 1: names '../a.png'"),
        ("", "'metadata.csv'"),
        ("file_name,label\n\u212b.png,x\n", "which is 2 pictures in the zip"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, table: str, says: str) -> None:
    pictures = {name: saved(drawn(1)) for name in ("a.png", "Å.png", "A\u030a.png")}
    assert says in refused(tmp_path, zipped(pictures | {"metadata.csv": table}), "x.zip")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"../a.png": saved(drawn())}, "name leads out of the zip ('../a.png'); pack the folder again"),
        ({"/etc/a.png": saved(drawn())}, "name leads out of the zip ('/etc/a.png')"),
        ({"C:/a.png": saved(drawn())}, "name leads out of the zip ('C:/a.png')"),
        ({"a\\..\\..\\b.png": saved(drawn())}, "name leads out of the zip"),
        (PETS | {"more.zip": zipped(PETS)}, "archives beside its pictures ('more.zip')"),
        (PETS | {"cat/more/1.png": saved(drawn(9))}, "both in a folder and in one inside it ('cat/more')"),
        (
            PETS | {"cat/9.jpg": saved(drawn(9), "JPEG")[:300]},
            "a picture that cannot be read: 'cat/9.jpg' is damaged or",
        ),
        (PETS | {"cat/9.jpg": "<html>404"}, "'cat/9.jpg' is no picture that is read"),
        (PETS | {"cat/9.heic": b"\0\0\0\x18ftypheic" + bytes(40)}, "'cat/9.heic' is HEIC, which is not read"),
        (
            PETS | {f"cat/x{i}.png": b"" for i in range(7)},
            "7 pictures of 12 that cannot be read: 'cat/x0.png' is empty; ",
        ),
        (PETS | {f"cat/x{i}.png": b"" for i in range(200)}, "'cat/x4.png' is empty; and 95 more; or leave them out"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
@pytest.mark.field(
    "3. Under attack", "a zip of pictures whose names lead out of it, or hold what is none", "refused, each by its name"
)
def test_what_is_wrong_in_a_zip_is_named(tmp_path: Path, files: dict[str, bytes], says: str) -> None:
    assert says in refused(tmp_path, zipped(files), "x.zip")


def test_names_and_formats_may_differ(tmp_path: Path) -> None:
    result = take(tmp_path, zipped(PETS | {"cat/9.jpg": saved(drawn(9))}), "x.zip")
    assert "1 picture has another format than its name says (first: 'cat/9.jpg')." in result.notes


def test_what_is_done_to_pictures_is_said(tmp_path: Path) -> None:
    odd = {"cat/c.jpg": saved(drawn(9).convert("CMYK"), "JPEG"), "cat/g.png": saved(drawn(8, 5, 40).convert("L"))}
    result = take(tmp_path, zipped(PETS | odd), "x.zip")
    assert "7 pictures (6 PNG, 1 JPEG) of 5 x 16 to 24 x 40 pixels." in result.notes
    assert "1 picture is of CMYK, converted to RGB (first: 'cat/c.jpg')." in result.notes
    assert "1 picture is grey, read as RGB (first: 'cat/g.png')." in result.notes


def test_bounds(tmp_path: Path) -> None:
    small = Limits(max_bytes=3000, max_rows=1000, max_columns=10, max_cell_chars=100)
    assert "unpacks to" in refused(tmp_path, zipped(PETS), "x.zip", limits=small)
    few = Limits(max_bytes=10**6, max_rows=4, max_columns=10, max_cell_chars=100)
    assert "more than 4 rows" in refused(tmp_path, zipped(PETS), "x.zip", limits=few)
    assert "too many or too large" in refused(tmp_path, zipped({f"{i}.png": b"" for i in range(65_600)}), "x.zip")


def test_a_zip_that_is_cut_off_or_locked_is_told(tmp_path: Path) -> None:
    whole = zipped(PETS, zipfile.ZIP_DEFLATED)
    assert "cut off" in refused(tmp_path, whole[:-9], "x.zip")
    broken = bytearray(whole)
    broken[60:90] = bytes(30)
    assert "'cat/0.png' cannot be unpacked" in refused(tmp_path, bytes(broken), "x.zip")
    locked = bytearray(whole)
    at = locked.find(b"PK\x01\x02")
    locked[at + 8] |= 1
    assert "a zip with a password" in refused(tmp_path, bytes(locked), "x.zip")


@pytest.mark.field("3. Under attack", "a zip of pictures with any bytes changed", "read, or refused in words")
def test_whatever_is_in_a_zip_it_is_read_or_refused(tmp_path: Path) -> None:
    rng, data = random.Random(0), zipped(PETS | {"cat/": "", "note.txt": "x"}, zipfile.ZIP_DEFLATED)
    for _ in range(120):
        broken = bytearray(data)
        for _ in range(rng.randint(1, 6)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        try:
            take(tmp_path, bytes(broken), "x.zip")
        except SpecError as error:
            assert error.field == "/file" and error.message


def test_a_zip_of_a_table_with_a_picture_is_still_a_table(tmp_path: Path) -> None:
    result = take(tmp_path, zipped({"rows.csv": "text,label\na,b\n", "logo.png": saved(drawn())}), "x.zip")
    assert result.rows == [{"text": "a", "label": "b"}]


def test_a_zip_of_parquet_with_pictures(tmp_path: Path) -> None:
    result = take(tmp_path, zipped({"part.parquet": hub_table(PETS)}), "x.zip")
    assert result.types == {"image": "picture"} and len(result.rows) == 5
