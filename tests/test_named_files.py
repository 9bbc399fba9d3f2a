"""Files and modules of ours that comments, strings and pages name are there: else nobody misses them when they move."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = "api|benchmarks|cli|client|core|docs|migrations|tests|worker"
FILE = re.compile(rf"(?<![\w./-])(?:{ROOMS})/[\w/]+\.(?:py|md|txt|json|jsonl|svg|html|css|js)\b")
MODULE = re.compile(r"(?<![\w./-])(?:core|api|worker|cli)(?:\.[a-z_]\w*){2,}(?!\()")
HISTORY = ("CHANGELOG.md", "docs/log.md", "benchmarks/results")  # of what was there then


def named() -> Iterator[tuple[str, str]]:
    """Where, and what."""
    pages = [path for room in ROOMS.split("|") for path in (ROOT / room).rglob("*") if path.suffix in (".py", ".md")]
    for path in (*pages, *ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "pyproject.toml"):
        where = path.relative_to(ROOT).as_posix()
        if not where.startswith(HISTORY):
            text = path.read_text(encoding="utf-8")
            yield from ((where, name) for name in (*FILE.findall(text), *MODULE.findall(text)))


def exists(name: str) -> bool:
    """Of a module, up to what it defines."""
    if "/" in name:
        return (ROOT / name).exists()
    path = ROOT
    for part in name.split("."):
        path /= part
        if path.with_suffix(".py").exists():
            return True
        if not path.is_dir():
            return False
    return True


def test_every_file_and_module_that_is_named_exists() -> None:
    found = {*named()}
    assert len(found) > 200
    assert sorted((where, name) for where, name in found if not exists(name)) == []
