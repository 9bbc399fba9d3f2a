"""docs/reliability.md names tests, and faults of the fleet in containers, that exist."""

import re
from pathlib import Path

from tests.fleet.faults import APART, TOGETHER

TESTS = Path(__file__).parent


def rows() -> list[list[str]]:
    """Cells of the table, the last two of each row by themselves."""
    page = (TESTS.parent / "docs/reliability.md").read_text()
    lines = [line.rstrip("| ") for line in page.splitlines() if line.startswith("| ")][1:]
    assert len(lines) > 15
    return [[cell.strip() for cell in line.rsplit("|", 2)] for line in lines]


def test_every_test_that_the_page_names_exists() -> None:
    for _, _, tests in rows():
        for part in tests.split(";"):
            file, _, names = part.strip().partition(": ")
            source = (TESTS / f"{file.strip('`')}.py").read_text()
            for name in filter(None, names.split(", ")):
                assert re.search(rf"def test_\w*{name}", source), (file, name)


def test_what_was_seen_in_containers_are_faults_of_the_fleet_with_what_came_of_them() -> None:
    named = {name for _, seen, _ in rows() for name in filter(None, seen.split("; "))}
    table = (TESTS.parent / "docs/fleet.md").read_text()
    printed = {name for name in (*APART, *TOGETHER) if f"\n| {name} |" in table}
    assert named == printed
