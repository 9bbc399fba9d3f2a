"""What a user sees of a job that runs."""

from __future__ import annotations

import io
import sys
import time
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from rich.console import Console

from tests.client.stub import AT, NO_EVENTS, Stub, job
from tests.reports import family, report
from tests.reports import result as made
from topwork import JobFailed, ServerAway, TopworkError
from topwork.cli.words import following, numbers, result, warnings
from topwork.jobs import PATIENCE_S
from topwork.models import Event, Job
from topwork.progress import failure, page, progress_of, said

JOB = "job_" + "1" * 32
PROGRESS = {
    "step": 3,
    "steps": 10,
    "eta_s": 75.2,
    "overall": 0.31,
    "sparsity": 0.5,
    "dev": {"accuracy": 0.8125, "loss": 2},
}


def watch(*jobs: dict[str, object], terminal: bool = False, width: int = 140) -> str:
    """The screen after following a job through these answers."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=width, highlight=False, color_system=None)
    stub = Stub(*(answer for one in jobs for answer in (httpx.Response(200, json=one), NO_EVENTS)))
    with progress_of(True, console) as show:
        stub.client().jobs.follow({"mine": JOB}, progress=show)
    return screen.getvalue()


def answered(status: str, **changes: Any) -> Job:
    """A job as the client has it."""
    return Job.model_validate(job(status, **changes))


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
    shown = watch(job(stage="prune", progress=PROGRESS), job("succeeded", stage="export"), terminal=True, width=80)
    assert all(part in shown for part in ("31%", "step 3 of 10", "left 1:15", "succeeded", "━"))
    assert max(map(len, shown.splitlines())) <= 80 + len("\x1b[1A\x1b[2K" * 4)


def test_the_last_job_is_waited_for_and_one_that_has_ended_not_asked_for_again() -> None:
    other = "job_" + "2" * 32
    answers = {JOB: iter([job("queued"), None, job("succeeded")]), other: iter([job("succeeded", id=other)])}

    def answer(request: httpx.Request) -> httpx.Response:
        found = next(answers[request.url.path.rpartition("/")[2]])
        return httpx.Response(304) if found is None else httpx.Response(200, json=found, headers={"ETag": 'W/"1"'})

    stub = Stub(answer)
    ended = stub.client().jobs.follow({"a": JOB, "b": other})
    assert {name: one.status for name, one in ended.items()} == {"a": "succeeded", "b": "succeeded"}
    asked = [(r.url.path[-5:], r.url.params.get("wait"), r.headers.get("if-none-match")) for r in stub.requests]
    assert asked[:2] == [("11111", None, None), ("22222", None, None)]
    assert asked[2:] == [("11111", "20", 'W/"1"')] * 2


@pytest.mark.field("4. A newcomer's hour", "the server is started again while a job is watched", "the watch goes on")
def test_a_server_that_is_started_again_is_waited_for() -> None:
    away = [httpx.ConnectError("refused")] * 10 + [httpx.Response(503)] * 10
    ended = [httpx.Response(200, json=job("succeeded")), NO_EVENTS]
    stub = Stub(httpx.Response(200, json=job()), NO_EVENTS, *away, *ended)
    told: list[str] = []
    found = stub.client().jobs.wait(JOB, progress=lambda _jobs, _news, wrong: told.append(str(wrong)))
    assert found.status == "succeeded"
    assert any(line.startswith("the server is away for 0 s (http://stub does not answer") for line in told)
    gone = Stub(httpx.Response(200, json=job()), httpx.ConnectError("refused"))
    with pytest.raises(ServerAway):
        gone.client().jobs.wait(JOB, patience=0)
    assert PATIENCE_S >= 60


def test_a_server_that_takes_connections_and_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def mute(request: httpx.Request) -> httpx.Response:
        nonlocal now
        now += request.extensions["timeout"]["read"]
        raise httpx.ReadTimeout("timed out", request=request)

    with pytest.raises(ServerAway):
        Stub(httpx.Response(200, json=job()), mute).client().jobs.wait(JOB)
    assert now == PATIENCE_S  # pauses aside


def test_waiting_ends_with_an_error_unless_the_job_succeeds() -> None:
    with pytest.raises(JobFailed, match=f"job {JOB} cancelled") as error:
        Stub(httpx.Response(200, json=job("cancelled"))).client().jobs.wait(JOB)
    assert error.value.job.status == "cancelled"
    with pytest.raises(TopworkError, match="not at an end within 0 s"):
        Stub(httpx.Response(200, json=job())).client().jobs.wait(JOB, timeout=0)


def test_what_a_job_says_meanwhile_is_shown_once() -> None:
    note = {"seq": 7, "type": "note", "data": {"message": "[b]rows[/b] of two sources are alike"}, "at": AT}
    begun = {"seq": 8, "type": "stage", "data": {"stage": "teach", "control": True}, "at": AT}
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None)
    first, second = job(), job("succeeded")
    stub = Stub(
        httpx.Response(200, json=first),
        httpx.Response(200, json={"items": [note, begun], "after": 8}),
        httpx.Response(200, json=second),
        httpx.Response(200, json={"items": [], "after": 8}),
    )
    with progress_of(True, console) as show:
        stub.client().jobs.wait(JOB, progress=show)
    assert screen.getvalue().count("[b]rows[/b] of two sources are alike") == 1
    assert "control without transfer: teach: trains the dense model" in screen.getvalue()
    assert stub.requests[3].url.params["after"] == "8"


def test_a_size_is_told_as_soon_as_it_is_trained() -> None:
    of = {"quality": {"value": 0.812, "low": 0.76, "high": 0.86}, "dense": {"value": 0.88, "low": 0.85, "high": 0.9}}
    data = {"size": "params-0.1", "metric": "accuracy", "bytes": 9, "dense_bytes": 99, "change": of["quality"], **of}
    event = {"seq": 7, "type": "size", "data": data, "at": AT}
    screen = io.StringIO()
    stub = Stub(
        httpx.Response(200, json=job()),
        httpx.Response(200, json={"items": [event], "after": 7}),
        httpx.Response(200, json=job("succeeded")),
        NO_EVENTS,
    )
    with progress_of(True, Console(file=screen, width=200)) as show:
        stub.client().jobs.wait(JOB, progress=show)
    assert "size: params-0.1: 81.2% accuracy on the dev rows (76.0% to 86.0%), dense 88.0%\n" in screen.getvalue()
    older = Event.model_validate(event | {"data": {"size": "params-0.1"}})
    assert said(older) is None


def test_the_bar_of_a_notebook_is_harmless_html() -> None:
    shown = page({"<b>": answered("running", stage="prune", progress=PROGRESS)}, "away")
    assert "&lt;b&gt; running <progress value='0.3100' max='1'></progress> 31% prune, step 3 of 10" in shown


def test_what_a_job_has_made_in_a_line() -> None:
    results = {name: made(value, metrics=("r2",)) for name, value in (("dense", 0.5), ("pruned", -12.5))}
    one = answered("succeeded", metrics=report(results=results, task=report()["task"] | {"metric": "r2"}))
    assert result(one) == "-12.5 r2 on the test rows (dense 0.5), 9.50% of what the budget counts kept"
    assert result(answered("succeeded")) is None
    results = {name: made(0.9876, metrics=("cosine", "ndcg_at_10")) for name in ("dense", "pruned")}
    for metric, expected in (("cosine", "0.9876 cosine"), ("ndcg_at_10", "98.8% ndcg_at_10")):
        task = report()["task"] | {"type": "sentence-similarity", "labels": [], "metric": metric}
        assert str(result(answered("succeeded", metrics=report(results=results, task=task)))).startswith(expected)


def test_what_to_know_of_a_job_before_its_numbers() -> None:
    doubted = {"warnings": ["the dense model is no better than always giving the commonest answer", "3 rows"]}
    found = warnings(answered("succeeded", metrics=report(**doubted)))
    assert found == [f"Mind: {said}" for said in doubted["warnings"]]
    assert warnings(answered("succeeded", metrics={})) == warnings(answered("failed")) == []


def test_why_a_job_failed() -> None:
    assert failure(answered("succeeded")) is None
    assert failure(answered("cancelled")) == f"job {JOB} cancelled"
    error = {"code": "invalid", "field": "/budget/params", "message": "out of reach"}
    assert failure(answered("failed", error=error)) == f"job {JOB} failed: /budget/params: out of reach"
    assert failure(answered("failed", error={"code": "x", "message": "why"})) == f"job {JOB} failed: why"


def test_several_sizes_are_told_in_a_line_with_the_one_to_take() -> None:
    said = result(answered("succeeded", metrics=family()))
    assert said == (
        "accuracy on the test rows: params-0.4 87.0%, params-0.1 82.0% (dense 87.6%); the smallest not told apart from "
        "dense is params-0.4; latency_ms-1 was not made: out of reach"
    )
    assert "no size is recommended" in str(result(answered("succeeded", metrics=family(recommended=None))))


def test_a_job_that_only_measured_says_what_it_measured() -> None:
    one = {"runtime": "onnx", "device": "cpu", "device_name": "CPU", "threads": 2, "batch_size": 1, "length": 128}
    probe = {"latency": [{**one, "lowest_ms": 0.31, "dense_ms": 13.4, "curve": []}], "timings_s": {}}
    job = answered("succeeded", metrics=probe)
    assert str(result(job)).startswith("this model takes 0.31 to 13.4 ms (at most 43.2 times as fast as dense)")
    assert warnings(job) == [] and numbers(job) == {}
    assert following(job) == [f"topwork report {JOB} --open", "topwork plan SPEC"]  # there is no model to download
    event = Event.model_validate(
        {"seq": 1, "type": "latency", "data": {"model": "x", "latency": probe["latency"][0]}, "at": AT}
    )
    assert str(said(event)).startswith("measured: this model takes 0.31 to 13.4 ms")
    assert said(event.model_copy(update={"data": {"latency": {"runtime": "onnx"}}})) is None


def test_several_sizes_are_compared_by_the_one_to_take() -> None:
    assert numbers(answered("succeeded", metrics=family()))["accuracy, pruned"] == "87.0%"
    smallest = numbers(answered("succeeded", metrics=family(recommended=None)))
    assert (smallest["size"], smallest["accuracy, pruned"]) == ("params-0.1", "82.0%")
    assert numbers(answered("failed")) == {}


def test_the_size_that_a_stage_is_of_is_named() -> None:
    running = job(stage="recover", progress={**PROGRESS, "stage": "recover", "size": "params-0.1"})
    assert "stage recover (params-0.1)" in watch(running, job("succeeded"))


def test_a_notebook_gets_one_bar_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    shell = type("ZMQInteractiveShell", (), {})()
    handle = SimpleNamespace(update=shown.append)
    display = SimpleNamespace(HTML=str, display=lambda _html, display_id: handle)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "IPython.display", display)  # type: ignore[arg-type]
    ended = [httpx.Response(200, json=job("succeeded")), NO_EVENTS]
    stub = Stub(httpx.Response(200, json=job(stage="prune", progress=PROGRESS)), NO_EVENTS, *ended)
    stub.client().jobs.wait(JOB, progress=True)
    assert ["31%" in shown[0], "100%" in shown[1], len(shown)] == [True, True, 2]
