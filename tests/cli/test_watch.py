"""What a user sees of a job that runs."""

from __future__ import annotations

import io

import httpx
from rich.console import Console

from cli.watch import failure, follow, result, warnings
from tests.cli.stub import Stub, job
from tests.reports import family, report
from tests.reports import result as made

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


def test_the_last_job_is_waited_for_and_one_that_has_ended_not_asked_for_again() -> None:
    answers = {
        "job_1": iter([job("queued"), None, job("succeeded")]),
        "job_2": iter([job("succeeded", id="job_2")]),
    }

    def answer(request: httpx.Request) -> httpx.Response:
        found = next(answers[request.url.path.rpartition("/")[2]])
        return httpx.Response(304) if found is None else httpx.Response(200, json=found, headers={"ETag": 'W/"1"'})

    stub = Stub(answer)
    ended = follow(stub.client(), {"a": "job_1", "b": "job_2"}, Console(file=io.StringIO()), pause=lambda _: None)
    assert {name: one["status"] for name, one in ended.items()} == {"a": "succeeded", "b": "succeeded"}
    asked = [(r.url.path[-5:], r.url.params.get("wait"), r.headers.get("if-none-match")) for r in stub.requests]
    assert asked[:2] == [("job_1", None, None), ("job_2", None, None)]
    assert asked[2:] == [("job_1", "20", 'W/"1"')] * 2


def test_what_a_job_has_made_in_a_line() -> None:
    results = {name: made(value, metrics=("r2",)) for name, value in (("dense", 0.5), ("pruned", -12.5))}
    one = job("succeeded", metrics=report(results=results, task=report()["task"] | {"metric": "r2"}))
    assert result(one) == "-12.5 r2 on the test rows (dense 0.5), 9.50% of what the budget counts kept"
    assert result(job("succeeded")) is None
    results = {name: made(0.9876, metrics=("cosine", "ndcg_at_10")) for name in ("dense", "pruned")}
    for metric, said in (("cosine", "0.9876 cosine"), ("ndcg_at_10", "98.8% ndcg_at_10")):
        task = report()["task"] | {"type": "sentence-similarity", "labels": [], "metric": metric}
        assert str(result(job("succeeded", metrics=report(results=results, task=task)))).startswith(said)


def test_what_to_know_of_a_job_before_its_numbers() -> None:
    doubted = {"warnings": ["the dense model is no better than always giving the commonest answer", "3 rows"]}
    assert warnings(job("succeeded", metrics=report(**doubted))) == [f"Mind: {said}" for said in doubted["warnings"]]
    assert warnings(job("succeeded", metrics={})) == warnings(job("failed")) == []


def test_why_a_job_failed() -> None:
    assert failure(job("succeeded")) is None
    assert failure(job("cancelled")) == "job job_1 cancelled"
    error = {"code": "invalid", "field": "/budget/params", "message": "out of reach"}
    assert failure(job("failed", error=error)) == "job job_1 failed: /budget/params: out of reach"
    assert failure(job("failed", error={"code": "x", "message": "why"})) == "job job_1 failed: why"


def test_several_sizes_are_told_in_a_line_with_the_one_to_take() -> None:
    said = result(job("succeeded", metrics=family()))
    assert said == (
        "accuracy on the test rows: params-0.4 87.0%, params-0.1 82.0% (dense 87.6%); the smallest not told apart from "
        "dense is params-0.4; latency_ms-1 was not made: out of reach"
    )
    assert "every size is told apart" in str(result(job("succeeded", metrics=family(recommended=None))))


def test_the_size_that_a_stage_is_of_is_named() -> None:
    running = job(stage="recover", progress={**PROGRESS, "stage": "recover", "size": "params-0.1"})
    assert "stage recover (params-0.1)" in watch(running, job("succeeded"))
