"""What a user sees of a job that runs."""

from __future__ import annotations

import io

import httpx
from rich.console import Console

from cli.watch import failure, follow
from tests.cli.stub import Stub, job

PROGRESS = {
    "step": 3,
    "steps": 10,
    "eta_s": 75.2,
    "overall": 0.31,
    "sparsity": 0.5,
    "dev": {"accuracy": 0.8125, "loss": 2},
}


def watch(*jobs: dict[str, object], terminal: bool = False) -> str:
    """The screen after following a job through these answers."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=140, highlight=False, color_system=None)
    stub = Stub(*(httpx.Response(200, json=one) for one in jobs))
    follow(stub.client(), {"mine": "job_1"}, console, pause=lambda _: None)
    return screen.getvalue()


def test_plain_lines_where_there_is_no_terminal() -> None:
    running = job(stage="prune", progress=PROGRESS)
    again = job(stage="prune", progress={**PROGRESS, "overall": 0.4}, attempt=2)
    alone, queued = (job("queued") | {"waiting": why} for why in ("no GPU worker is alive", None))
    shown = watch(alone, queued, queued, running, running, again, job("succeeded", stage="export", attempt=2))
    assert shown.splitlines() == [
        "mine: queued, because no GPU worker is alive, 0% overall",
        "mine: queued, 0% overall",
        "mine: running, stage prune, step 3 of 10, left 1:15, sparsity 50%, dev 81.2% accuracy, 31% overall",
        "mine: running, stage prune, step 3 of 10, left 1:15, sparsity 50%, dev 81.2% accuracy, attempt 2 of 3, "
        "40% overall",
        "mine: succeeded, attempt 2 of 3, 100% overall",
    ]


def test_a_live_table_on_a_terminal() -> None:
    shown = watch(job(stage="prune", progress=PROGRESS), job("succeeded", stage="export"), terminal=True)
    assert all(part in shown for part in ("overall", "succeeded", "━"))


def test_why_a_job_failed() -> None:
    assert failure(job("succeeded")) is None
    assert failure(job("cancelled")) == "job job_1 cancelled"
    error = {"code": "invalid", "field": "/budget/params", "message": "out of reach"}
    assert failure(job("failed", error=error)) == "job job_1 failed: /budget/params: out of reach"
    assert failure(job("failed", error={"code": "x", "message": "why"})) == "job job_1 failed: why"
