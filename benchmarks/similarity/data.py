"""Pairs that are searched, and documents alone, as Parquet tables with the columns query, document, or text.

`debian`: synopsis -> long description of Debian packages, by the `Translation-en` file of this machine's own release,
which `apt-get update` fetches into a folder of its own, in whatever state it is. `mail`: subject -> body of
SpamAssassin's corpus, from a package pinned by sha256. Identical texts are one.
"""

from __future__ import annotations

import email
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.transfer.data import MAIL, MAIL_FILES, mail_text
from cli.packages import FetchError, fetched, members

Pair = tuple[str, str]
LEAST = 60  # characters of a document
MOST = 2000
ANSWER = re.compile(r"(re|fwd?|aw)\b", re.IGNORECASE)
APT_HELPER = "/usr/lib/apt/apt-helper"


def prepare(folder: Path, say: Callable[[str], None]) -> dict[str, Path]:
    """Name -> Parquet file of pairs; what is missing is fetched. Raises FetchError."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: folder / f"{name}.parquet" for name in RECIPES}
    for name, path in found.items():
        if not path.is_file():
            say(f"{name}: fetching")
            pairs = list(distinct(RECIPES[name]()))
            queries, documents = zip(*pairs, strict=True)
            fresh = path.with_suffix(f".{os.getpid()}.tmp")
            pq.write_table(pa.table({"query": queries, "document": documents}), fresh)
            fresh.replace(path)
            say(f"{name}: {len(pairs):,} pairs, sha256 {sha256(path.read_bytes()).hexdigest()[:16]}")
    return found


def distinct(pairs: Iterator[Pair]) -> Iterator[Pair]:
    """Pairs of which neither text came before, and the document is long enough to be one."""
    seen: set[str] = set()
    for query, document in pairs:
        if len(document) >= LEAST and query and query not in seen and document not in seen:
            seen |= {query, document}
            yield query, document[:MOST]


def debian() -> Iterator[Pair]:
    """Synopsis and long description of each package; lists and paragraphs are run together."""
    with tempfile.TemporaryDirectory() as scratch:
        where = [f"Dir::State={scratch}/state", f"Dir::Cache={scratch}/cache", "Acquire::Languages=en"]
        Path(scratch, "state/lists/partial").mkdir(parents=True)
        try:
            subprocess.run(
                ["apt-get", "update", "-q", *(part for one in where for part in ("-o", one))],
                check=True,
                capture_output=True,
            )
            files = sorted(Path(scratch, "state/lists").glob("*_main_i18n_Translation-en*"), key=_size)
            text = subprocess.run([APT_HELPER, "cat-file", str(files[-1])], check=True, capture_output=True).stdout
        except (OSError, IndexError, subprocess.CalledProcessError) as error:
            raise FetchError(f"Debian's descriptions cannot be had: {error}") from error
    for entry in text.decode().split("\n\n"):
        if found := re.search(r"^Description-en: (.*)\n((?: .*\n?)+)", entry, re.MULTILINE):
            yield found[1].strip(), " ".join(found[2].replace("\n .\n", "\n").split())


def _size(file: Path) -> int:
    return file.stat().st_size


def mail() -> Iterator[Pair]:
    """Subject and body of each mail of SpamAssassin's corpus; answers are left out, whose subject is another's."""
    with tempfile.TemporaryDirectory() as scratch:
        for _, content in members(fetched(MAIL, Path(scratch)), MAIL_FILES):
            raw = json.loads(content)["text"]
            subject = " ".join(str(email.message_from_string(raw).get("Subject", "")).split())
            if not ANSWER.match(subject):
                yield subject, mail_text(raw).removeprefix(subject).strip()


RECIPES: dict[str, Callable[[], Iterator[Pair]]] = {"debian": debian, "mail": mail}
