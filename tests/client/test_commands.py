"""The commands that any server answers: what they print, at 80 columns, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

from tests.client.stub import NO_EVENTS, FileServer, Stub, dataset, job, output, page
from tests.reports import family, report
from topwork.cli import main
from topwork.cli.main import app

runner = CliRunner()
JOB = "job_" + "1" * 32


def command(*arguments: str, given: str | None = None) -> Any:
    """A command at 80 columns."""
    return runner.invoke(app, [*arguments], input=given, env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})


def answers(stub: Stub, by_path: dict[str, Any]) -> None:
    """Answer by the address's end, the longest that fits; nothing has happened to any job."""
    ends = sorted({"/events": NO_EVENTS, **by_path}.items(), key=lambda end: -len(end[0]))

    def answer(request: httpx.Request) -> httpx.Response:
        found = next(value for end, value in ends if request.url.path.endswith(end))
        return found if isinstance(found, httpx.Response) else httpx.Response(200, json=found)

    stub.answers = [answer]


UNDERSTOOD = {
    "kind": "csv",
    "rows": 1300,
    "columns": [
        {"name": "column1", "type": "text", "empty": 3, "values": {}},
        {"name": "column2", "type": "text", "empty": 0, "values": {"[b]good": 900, "bad": 400}},
    ],
    "skipped": [{"column": "image", "why": "is binary"}],
    "compression": "gzip",
    "encoding": "UTF-8",
    "delimiter": ";",
    "header": False,
    "notes": ["It has no header line."],
}


def test_submit_prints_the_id_and_can_watch(stub: Stub, tmp_path: Path) -> None:
    spec, data = tmp_path / "spec.json", tmp_path / "a.csv"
    spec.write_text(json.dumps({"task": {"data": {"dataset": "@a"}}}))
    data.write_text("text,label\n")
    stub.answers = [
        page(),
        httpx.Response(201, json=dataset(understood=UNDERSTOOD)),
        httpx.Response(202, json=job("queued")),
        httpx.Response(200, json=job("succeeded")),
        NO_EVENTS,
    ]
    result = command("submit", str(spec), "--data", f"a={data}", "--watch", "--title", "mine")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [JOB, f"{JOB}: succeeded, 100% overall"]
    assert result.stderr.splitlines()[:4] == [
        "a.csv: 1,300 rows",
        "  columns: column1 (text, 3 empty), column2 (text: [b]good 900, bad 400)",
        "  left out: image, which is binary",
        "  It has no header line.",
    ]
    sent = {"task": {"data": {"dataset": "ds_1"}}, "title": "mine"}
    assert json.loads(stub.requests[2].content) == sent


def test_submit_shows_the_secret_of_a_webhook(stub: Stub, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text('{"webhook": {"url": "https://example.org/hooks"}}')
    asked = httpx.Response(202, json=job("queued") | {"webhook_secret": "whsec_[b]x"})
    told = "Its webhook's secret, shown this once: whsec_[b]x\n"
    stub.answers = [asked]
    alone = command("submit", str(spec))
    assert (alone.stdout, alone.stderr) == (f"{JOB}\n", told)
    stub.answers = [asked, httpx.Response(200, json=job("succeeded")), NO_EVENTS]
    watched = command("submit", str(spec), "--watch", "--json")
    assert json.loads(watched.stdout)["webhook_secret"] == "whsec_[b]x" and watched.stderr == f"{JOB}\n{told}"
    stub.answers = [httpx.Response(202, json=job("queued"))]
    assert command("submit", str(spec)).stderr == ""


@pytest.mark.field("4. A newcomer's hour", "a job that failed, a server that is away", "exit codes of their own")
def test_watch_ends_with_a_code_for_each_end(stub: Stub) -> None:
    answers(stub, {JOB: job("failed", error={"code": "x", "message": "out of [bold]memory"})})
    failed = command("watch", JOB)
    assert (failed.exit_code, failed.stderr) == (3, f"job {JOB} failed: out of [bold]memory\n")
    answers(stub, {JOB: httpx.Response(404, json={"detail": "There is no such job."})})
    assert command("watch", JOB).exit_code == 1
    stub.answers = [httpx.ConnectError("refused")]
    assert command("show", JOB).exit_code == 4
    assert command("watch").exit_code == 2


@pytest.mark.field("4. A newcomer's hour", "Ctrl-C while a job is watched", "what goes on, and how to come back")
def test_ctrl_c_says_what_goes_on_and_how_to_come_back(stub: Stub) -> None:
    def interrupted(_request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    stub.answers = [httpx.Response(200, json=job()), NO_EVENTS, interrupted]
    stopped = command("watch", JOB)
    assert stopped.exit_code == 130
    assert f"the job goes on. To come back: topwork watch {JOB}\nTo end it: topwork cancel" in stopped.stderr


def test_submit_of_a_name_that_is_not_given_exits_2(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"task": {"data": {"dataset": "@a"}}}')
    result = command("submit", str(tmp_path / "spec.json"))
    assert (result.exit_code, stub.requests) == (2, [])


def test_a_folder_that_cannot_be_made_is_one_line(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stub.answers = [httpx.Response(200, json={"items": [output("a.json", "0" * 64, "/a")]})]
    wrong = str(tmp_path / "file" / "folder")
    for arguments in (["download", JOB, wrong], ["serve", "--data-dir", wrong]):
        result = command(*arguments)
        assert (result.exit_code, result.stderr) == (1, f"{wrong}: Not a directory\n")


def test_a_key_goes_along_with_every_request(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_KEY", "topwork_secret\r\n")
    answers(stub, {JOB: job("succeeded")})
    assert command("watch", JOB).exit_code == 0
    assert stub.requests[0].headers["authorization"] == "Bearer topwork_secret"


def test_watch_ends_with_what_to_mind_the_numbers_and_what_comes_next(stub: Stub) -> None:
    answers(stub, {JOB: job("succeeded", metrics=report(warnings=["no better [/x] :dog:"]))})
    result = command("watch", JOB)
    assert result.stdout.splitlines()[1:] == [
        "Mind: no better [/x] :dog:",
        "81.9% accuracy on the test rows (dense 87.6%), 9.50% of what the budget counts kept",
        f"topwork report {JOB} --open",
        f"topwork download {JOB} FOLDER",
    ]
    answers(stub, {JOB: job("succeeded", metrics=family())})
    assert f"topwork download {JOB} FOLDER --size params-0.4" in command("watch", JOB).stdout


def test_folders_of_any_name(stub: Stub, tmp_path: Path) -> None:
    stub.answers = [FileServer({"a.bin": b"x"})]
    result = command("download", JOB, str(tmp_path / "out[/x]"))
    assert (result.exit_code, result.stdout.split(",")[0]) == (0, f"1 files in {tmp_path}/out[/x]")


PAIRS = b'{"spec": {"task": {"text": ["query", "document"]}}, "files": {}}'


@pytest.mark.parametrize(
    ("beside", "content", "given"),
    [
        ("config.json", b"{}", "'a text'"),
        ("preprocessor_config.json", b"{}", "PICTURE.png"),
        ("manifest.json", PAIRS, "'a text' 'another'"),
    ],
)
def test_a_download_says_how_it_is_tried(stub: Stub, tmp_path: Path, beside: str, content: bytes, given: str) -> None:
    stub.answers = [FileServer({"load.py": b"x", beside: content})]
    result = command("download", JOB, str(tmp_path / "out"))
    assert result.stdout.replace("\n", " ").endswith(f"python load.py {given}) ")


PLAN = {
    "spec": {
        "model": "all-minilm-l6-v2",
        "task": {"type": "text-classification"},
        "budget": {"params": 0.1, "of": None},
        "method": {"name": "fisher"},
        "train": {"steps": {"recover": None}},
    },
    "labels": ["negative", "positive"],
    "head": "a fresh head for 2 labels: it has none of its own",
    "rows": {"train": 100, "dev": 100, "test": 1100, "sources": [10568], "unlabelled": 0, "dropped": {"duplicates": 3}},
    "units": None,
    "limit": 1064678,
    "latency": [],
    "reach": [{"cost": "params", "of": "encoder", "lowest": 19000, "dense": 10646784}],
    "estimate": {
        "device": "cpu",
        "seconds": {"low": 85, "high": 170},
        "basis": "from 2 jobs",
        "memory_bytes": 1200000000,
    },
    "says": [
        "It learns from 100 rows, chooses by 100, and is measured on 1,100 others, once.",
        "It may borrow from sources of 10,568 rows.",
        "Rows that are left out: 3 duplicates.",
        "It tells negative, positive apart, on a fresh head for 2 labels: it has none of its own.",
        "The budget, 10% of encoder parameters, is at most 1,064,678 parameters of 10,646,784 parameters; "
        "the least that can be reached is 19,000 parameters.",
        "Within reach: 19,000 to 10,646,784 parameters of the encoder.",
        "On a CPU it takes 1:25 min to 2:50 min (from 2 jobs), and 1.2 GB of memory at most.",
    ],
    "warnings": ["give the target's own unlabelled texts in task.unlabelled"],
    "notes": ["'label' has 2 values."],
    "understood": {},
}


def test_a_plan_is_ten_lines_of_prose(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("{}")
    answers(stub, {":validate": PLAN})
    shown = command("plan", str(tmp_path / "spec.json")).stdout
    assert [line.rstrip() for line in shown.splitlines()] == [
        "Mind: give the target's own unlabelled texts in task.unlabelled.",
        "all-minilm-l6-v2, text classification, 10% of encoder parameters.",
        "It learns from 100 rows, chooses by 100, and is measured on 1,100 others, once.",
        "It may borrow from sources of 10,568 rows.",
        "Rows that are left out: 3 duplicates.",
        "It tells negative, positive apart, on a fresh head for 2 labels: it has none of",
        "its own.",
        "The budget, 10% of encoder parameters, is at most 1,064,678 parameters of",
        "10,646,784 parameters; the least that can be reached is 19,000 parameters.",
        "Within reach: 19,000 to 10,646,784 parameters of the encoder.",
        "On a CPU it takes 1:25 min to 2:50 min (from 2 jobs), and 1.2 GB of memory at",
        "most.",
        "'label' has 2 values.",
    ]


FACTS = [
    {"name": "review", "type": "text", "empty": 0, "values": {}},
    {"name": "label", "type": "text", "empty": 0, "values": {"good": 5, "bad": 4}},
]
MODELS: dict[str, list[dict[str, Any]]] = {
    "items": [
        {"name": "all-minilm-l6-v2", "task": "text", "architecture": "bert", "pruned": False, "labels": []}
        | {"model_params": 22713216, "size_bytes": 9}
    ],
    "unusable": [{"name": "my-lora", "reason": "it is an adapter; merge it into its model, and save that"}],
}
OTHER = "job_" + "2" * 24 + "abcd1234"
LISTS = {
    "/v1/jobs": {
        "items": [job("succeeded", metrics=report()), job(id=OTHER, progress={"overall": 0.31})],
        "next": None,
    },
    JOB: job("succeeded", metrics=report()),
    OTHER: job("succeeded", id=OTHER, metrics=report(), spec={**job()["spec"], "budget": {"params": 0.05}}),
    "/report": report(),
    "/v1/datasets": {"items": [dataset(name="b" * 40 + ".csv", understood=UNDERSTOOD)], "next": None},
    "/v1/datasets/ds_1": httpx.Response(204),
    "/v1/models": MODELS,
    "/cancel": job("cancelling"),
    "/retry": job("queued"),
}
COMMANDS = {
    "jobs": ("jobs", "abcd1234  running 31%"),
    "show": ("show abcd1234", "job       job_2222"),
    "compare": (f"compare {JOB} {OTHER}", "budget.params"),
    "report": (f"report {JOB}", "pruned  81.9% (79.9% to 83.9%)"),
    "cancel": (f"cancel {JOB}", "is cancelling"),
    "retry": (f"retry {JOB}", "is queued"),
    "delete": (f"delete {JOB} --yes", "is deleted"),
    "models": ("models", "my-lora cannot be pruned: it is an adapter"),
    "data": ("data", "text, label"),
    "data show": ("data show ds_1", "1,300 rows"),
    "data delete": ("data delete ds_1", "is deleted"),
}


def test_jobs_are_compared_by_title_and_id(stub: Stub) -> None:
    answers(stub, LISTS | {OTHER: job("succeeded", id=OTHER, spec={**job()["spec"], "title": "[b]Mine"})})
    head, ids, *_ = command("compare", JOB, OTHER).stdout.splitlines()
    assert "[b]Mine" in head and JOB[-8:] in ids and OTHER[-8:] in ids


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.field("4. A newcomer's hour", "the commands on a terminal of 80 columns", "they fit, and have --json")
def test_commands_fit_80_columns_and_have_json(name: str, stub: Stub) -> None:
    line, expected = COMMANDS[name]
    answers(stub, LISTS)
    shown = command(*line.split())
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert expected in shown.stdout
    assert max(len(text.rstrip()) for text in shown.stdout.splitlines()) <= 80
    assert json.loads(command(*line.split(), "--json").stdout)


def test_every_help_fits_80_columns() -> None:
    top = [one.name or one.callback.__name__ for one in app.registered_commands if one.callback]
    for name in ["", *top, "data show", "data upload", "data delete", "keys create"]:
        shown = command(*name.split(), "--help")
        assert shown.exit_code == 0 and max(map(len, shown.stdout.splitlines())) <= 80, name


@pytest.mark.parametrize("told", ['dump({"a": 10**6 * "x"})', 'say(10**6 * "x")'])
def test_who_reads_no_further_ends_a_command_well(told: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    line = [sys.executable, "-c", f"from topwork.cli.common import *\nwith session('http://stub'):\n    {told}"]
    ended = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_delete_asks_first(stub: Stub) -> None:
    answers(stub, LISTS)
    assert command("delete", JOB, given="n\n").exit_code == 1
    assert {request.method for request in stub.requests} == {"GET"}


def test_delete_asks_on_stderr(stub: Stub) -> None:
    answers(stub, LISTS)
    deleted = command("delete", JOB, "--json", given="y\n")
    assert "and its files?" in deleted.stderr
    assert json.loads(deleted.stdout.partition("y\n")[2]) == {"deleted": JOB}  # the runner echoes what is typed


@pytest.mark.parametrize("line", [f"delete {JOB}", "new rows.csv --unlabelled own.csv", "new rows.csv --model m"])
def test_who_cannot_be_asked_is_told_of_yes(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("rows.csv", "own.csv"):
        (tmp_path / name).write_text("review,label\n")

    def closed(_request: httpx.Request) -> httpx.Response:
        sys.stdin = None  # as after `<&-`
        return page() if line.startswith("new") else httpx.Response(200, json=job("succeeded"))

    made = httpx.Response(201, json=dataset(understood={**UNDERSTOOD, "columns": FACTS}))
    stub.answers = [closed, made, httpx.Response(200, json=MODELS)]
    asked = command(*line.split())
    assert (asked.exit_code, asked.stderr) == (2, "there is nobody to ask here: give --yes\n")
    assert not (tmp_path / "spec.json").exists() and "DELETE" not in {one.method for one in stub.requests}


@pytest.mark.parametrize(
    ("cost", "limit", "met", "said"),
    [
        ("params", 13000, 12345, "12,345 of 13,000 parameters"),
        ("macs", 5_000_000, 4_000_000, "4,000,000 of 5,000,000 multiply-accumulates"),
        ("sparsity", 13000, 12345, "12,345 of 13,000 non-zero weights"),
        ("speedup", 5.4321987, 5.31234567, "5.31 of 5.43 ms"),
        ("latency_ms", 1200.4, 1180.25, "1,180 of 1,200 ms"),
    ],
)
def test_the_report_says_of_what_its_budget_is(stub: Stub, cost: str, limit: float, met: float, said: str) -> None:
    budget = report()["budget"] | {"cost": cost, "limit": limit, "met": met}
    answers(stub, LISTS | {JOB: job("succeeded", metrics=report(budget=budget))})
    assert f"budget  {said} (9.50% of dense)" in command("report", JOB).stdout


def test_the_report_opens_as_a_page(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    answers(stub, LISTS | {"/report": httpx.Response(200, html="<p>the page")})
    shown = command("report", JOB, "--open")
    (address,) = opened
    assert Path(address.removeprefix("file://")).read_text() == "<p>the page"
    assert shown.stdout.strip() == address.removeprefix("file://")


def test_the_report_of_several_sizes_leads_to_that_of_each(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    done = job("succeeded", metrics=family())
    answers(stub, LISTS | {JOB: done, "/report": httpx.Response(200, html="<p>the page")})
    command("report", JOB, "--open")
    folder = Path(opened[0].removeprefix("file://")).parent
    made = {f"{one['name']}/report.html" for one in family()["sizes"] if one.get("result")}
    assert made | {"report.html"} == {str(one.relative_to(folder)) for one in folder.rglob("*.html")}


def test_the_end_of_a_job_that_failed_is_json_as_well(stub: Stub) -> None:
    error = {"code": "invalid", "message": "out of reach"}
    answers(stub, LISTS | {JOB: job("failed", error=error)})
    shown = command("watch", JOB, "--json")
    assert shown.exit_code == 3 and json.loads(shown.stdout)["error"]["message"] == "out of reach"


def test_a_name_that_is_no_utf_8_is_refused(stub: Stub, tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"r\xe9sum\xe9.csv")
    file.touch()
    told = command("data", "upload", str(file))
    said = "r\\udce9sum\\udce9.csv: the file's name is no UTF-8; give it another\n"
    assert (told.exit_code, told.stderr, stub.requests) == (1, said, [])


def test_where_no_server_is_installed_its_commands_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "entry_points", lambda group: ())
    alone = typer.Typer()
    main.add_server(alone)
    said = runner.invoke(alone, ["serve", "--port", "1"])
    assert said.exit_code == 2
    assert said.stderr.startswith("'topwork serve' is a command of the server, which is not installed here")


def test_commands_of_a_server_that_is_broken_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        name = "server"

        def load(self) -> None:
            raise ImportError("No module named 'redis'")

    monkeypatch.setattr(main, "entry_points", lambda group: (Broken(),))
    alone = typer.Typer()
    main.add_server(alone)
    assert runner.invoke(alone, ["serve"]).exit_code == 2
    assert {one.name for one in alone.registered_commands} == {*main.OF_SERVERS}
