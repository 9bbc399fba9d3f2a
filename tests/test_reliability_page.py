"""docs/reliability.md names tests that exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parent


def test_every_test_that_the_page_names_exists() -> None:
    rows = [line for line in (TESTS.parent / "docs/reliability.md").read_text().splitlines() if line.startswith("| ")][
        1:
    ]
    assert len(rows) > 15
    for row in rows:
        for part in row.rstrip("| ").rpartition("|")[2].split(";"):
            file, _, names = part.strip().partition(": ")
            source = (TESTS / f"{file.strip('`')}.py").read_text()
            for name in filter(None, names.split(", ")):
                assert re.search(rf"def test_\w*{name}", source), (file, name)
