"""Documents: links lead somewhere, and tables of methods are what commands printed."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from benchmarks.golden import JOBS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md", "llms.txt")] + [
    page for folder in ("docs", "benchmarks", "tests") for page in sorted((ROOT / folder).rglob("*.md"))
]


def parsed(page: Path) -> list[Token]:
    return MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them."""
    found, seen = set[str](), Counter[str]()
    tokens = parsed(page)
    for opened, inline in pairwise(tokens):
        if opened.type == "heading_open":
            said = "".join(child.content for child in inline.children or []).lower()
            slug = re.sub(r"[^\w\- ]", "", said).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    targets = [
        str(child.attrs.get("href") or child.attrs["src"])
        for token in parsed(page)
        for child in token.children or []
        if child.type in ("link_open", "image")
    ]
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", sorted((ROOT / "docs/methods").glob("*.md")), ids=lambda page: page.stem)
def test_tables_that_were_measured_are_those_of_the_results(page: Path) -> None:
    """Of the table after a paragraph that names a file of results, what each cell beside the first says is in there."""
    printed, column, checked = "", 0, 0
    for token in parsed(page):
        if token.type in ("heading_open", "table_close"):
            printed, column = "", 0
        elif token.type == "tr_open":
            column = 0
        elif token.type == "td_open":
            column += 1
        elif token.type == "inline" and token.level == 1 and "benchmarks/results/" in token.content:
            (name,) = re.findall(r"benchmarks/results/([\w-]+\.md)", token.content)
            printed = (ROOT / "benchmarks/results" / name).read_text(encoding="utf-8")
        elif token.type == "inline" and printed and column > 1:
            for part in token.content.split(" / "):
                assert re.search(rf"(?<![\w.+-]){re.escape(part)}(?![\w.])", printed), part
                checked += 1
    assert checked > 5


@pytest.mark.parametrize(
    "page", [page for page in PAGES if not {"results", "cases"} & {*page.parts}], ids=lambda page: page.name
)
def test_a_line_of_prose_can_be_read(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    prose = [
        line
        for token in parsed(page)
        if token.type == "paragraph_open" and token.map
        for line in lines[slice(*token.map)]
    ]
    assert [line for line in prose if len(line) > 120 and " " in line.strip()] == []


def test_the_number_of_golden_jobs_is_the_one_told() -> None:
    assert f"{len(JOBS)} tiny jobs" in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
