"""What the demo says of its two jobs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from cli.busy import waited
from cli.demo import following, show
from cli.demo_texts import TEXTS
from core.spec import metrics
from core.spec.report import Report
from tests.reports import report
from topwork import report as client_report


def test_what_to_mind_of_a_job_comes_before_what_the_table_says(tmp_path: Path) -> None:
    screen = io.StringIO()
    warned = Report.model_validate(report(warnings=["the dense model is no better [/x]"]))
    reports = {"without transfer": warned, "with transfer": Report.model_validate(report())}
    show(TEXTS, [], reports, 0.0, tmp_path / "table.md", Console(file=screen, width=80), 60.0)
    for text in (screen.getvalue(), (tmp_path / "table.md").read_text()):
        assert "Mind, without transfer: the dense model is no better [/x].\nMeasured on 2,247 held-out rows" in text
        assert "Mind, with" not in text.replace("Mind, without", "")


@pytest.mark.field("4. A newcomer's hour", "the demo's milliseconds on a busy machine", "doubted")
def test_milliseconds_of_a_busy_machine_are_doubted(tmp_path: Path) -> None:
    screen = io.StringIO()
    reports = {name: Report.model_validate(report()) for name in ("without transfer", "with transfer")}
    show(TEXTS, [], reports, 0.53, tmp_path / "table.md", Console(file=screen, width=80), 60.0)
    assert "Mind: this machine was busy: while these milliseconds were measured, 53% of the time" in screen.getvalue()
    assert waited((0, 0), (1, 3)) == 0.75 and waited((1, 1), (1, 1)) == 0.0


def test_the_table_fits_a_narrow_terminal(tmp_path: Path) -> None:
    screen = io.StringIO()
    reports = {name: Report.model_validate(report()) for name in ("without transfer", "with transfer")}
    rows = [(f"{kind}, {name}", *["9"] * 7) for name in reports for kind in ("dense teacher", "pruned")]
    narrow = Console(file=screen, width=80, force_terminal=True, color_system=None)
    show(TEXTS, rows, reports, 0.0, tmp_path / "table.md", narrow, 60.0)
    table = [line for line in screen.getvalue().splitlines() if line[:1] in "│┃┏┡└"]
    assert table and max(map(len, table)) <= 80


@pytest.mark.field("4. A newcomer's hour", "the demo's end", "the report's path, and the next command")
def test_the_demo_ends_with_the_report_and_the_next_command(tmp_path: Path) -> None:
    said = "\n".join(following(tmp_path / "made", Path("data"), keep=False))
    assert f"{tmp_path / 'made' / 'report.html'}" in said
    assert "topwork serve --data-dir data" in said and "topwork new FILE.csv" in said
    assert "serve" not in "".join(following(tmp_path, Path("data"), keep=True))
    (tmp_path / "preprocessor_config.json").touch()
    assert "python load.py PICTURE.png" in "".join(following(tmp_path, Path("data"), keep=True))


@pytest.mark.parametrize(
    ("value", "said"), [(0.3, "0.30"), (0.049, "0.049"), (3.14, "3.1"), (42.06, "42.1"), (1234.5, "1,234")]
)
@pytest.mark.field("4. A newcomer's hour", "0.3 ms", "two digits that count")
def test_short_times_have_two_digits_that_count(value: float, said: str) -> None:
    """The client, which imports nothing of ours, says it alike."""
    assert metrics.milliseconds(value) == client_report.milliseconds(value) == said
