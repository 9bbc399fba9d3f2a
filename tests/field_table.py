"""A pytest plugin: `--field-table FILE` writes what tests marked `field` expected and got, as a page for people.

    @pytest.mark.field("Models in, checkpoints out", "two downloads in one process", "each its own")

A test may say what it got in a sentence of its own: `record_property("got", "...")`; otherwise it is how it ended.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HEAD = """# What the world hands us: expected and got

Each row is a kind of input that broke, or misled, an earlier revision, and what this one answers.
`make field` runs the tests behind the rows and writes this page; what they say is in `tests/`.
"""
Row = tuple[str, str, str]  # section, input, expected


class FieldTable:
    """Collects, on the process that prints, how marked tests ended."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.rows: dict[Row, list[tuple[bool, str]]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Of each phase; a passed call, or the first phase that failed, is how a test ended."""
        if not (report.failed or report.when == "call"):
            return
        properties = dict(report.user_properties)
        got = str(properties.get("got", "as expected")) if report.passed else "FAILED" if report.failed else "not run"
        for row in properties.get("field", ()):  # type: ignore[attr-defined]
            self.rows.setdefault(tuple(row), []).append((report.passed, got))

    def pytest_sessionfinish(self) -> None:
        """Write the page."""
        lines = [HEAD]
        for section in dict.fromkeys(row[0] for row in sorted(self.rows)):
            lines += [f"## {section}", "", "| input | expected | got | tests |", "| --- | --- | --- | ---: |"]
            for row, ended in sorted(self.rows.items()):
                if row[0] == section:
                    said = dict.fromkeys(got for _, got in ended)
                    passed = sum(one for one, _ in ended)
                    cells = (*row[1:], "; ".join(said), f"{passed} of {len(ended)} passed")
                    lines.append(f"| {' | '.join(map(_cell, cells))} |")
            lines.append("")
        self.target.write_text("\n".join(lines), encoding="utf-8")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--field-table`."""
    parser.addoption("--field-table", type=Path, help="write the table of marked tests to this file")


def pytest_configure(config: pytest.Config) -> None:
    """Of the process that prints: the workers of xdist only pass on what is marked."""
    config.addinivalue_line("markers", "field(section, input, expected): a row of docs/field.md")
    target = config.getoption("--field-table")
    if target is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FieldTable(target))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is marked travels with the report."""
    for item in items:
        if rows := [mark.args for mark in item.iter_markers("field")]:
            item.user_properties.append(("field", rows))
