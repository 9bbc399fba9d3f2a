"""What the demo says of its two jobs."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from cli.demo import show
from cli.demo_texts import TEXTS
from core.spec.report import Report
from tests.reports import report


def test_what_to_mind_of_a_job_comes_before_what_the_table_says(tmp_path: Path) -> None:
    screen = io.StringIO()
    warned = Report.model_validate(report(warnings=["the dense model is no better [/x]"]))
    reports = {"without transfer": warned, "with transfer": Report.model_validate(report())}
    show(TEXTS, [], reports, tmp_path / "table.md", Console(file=screen, width=80), 60.0)
    for text in (screen.getvalue(), (tmp_path / "table.md").read_text()):
        assert "Mind, without transfer: the dense model is no better [/x].\nMeasured on 2,247 held-out rows" in text
        assert "Mind, with" not in text.replace("Mind, without", "")
