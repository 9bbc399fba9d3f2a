"""What the demo says of its two jobs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from cli.demo import show


def test_what_to_mind_of_a_job_comes_before_what_the_table_says(tmp_path: Path) -> None:
    def report(*warnings: str) -> dict[str, Any]:
        return {
            "warnings": list(warnings),
            "results": {"pruned": {"test": {"accuracy": {"value": 0.71}}}},
            "data": {"test": 100, "train": 100},
            "environment": {"device": "CPU"},
            "budget": {"fraction": 0.1},
        }

    screen = io.StringIO()
    reports = {"without transfer": report("the dense model is no better [/x]"), "with transfer": report()}
    show([], reports, reports, tmp_path / "table.md", Console(file=screen, width=80), 60.0)
    for text in (screen.getvalue(), (tmp_path / "table.md").read_text()):
        assert "Mind, without transfer: the dense model is no better [/x].\nMeasured on 100 held-out rows" in text
        assert "Mind, with" not in text.replace("Mind, without", "")
