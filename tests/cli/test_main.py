"""The commands themselves: help, version, exit codes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from cli import client, main
from core.ledger.database import Database
from core.ledger.settings import Settings
from tests.cli.stub import Stub, job
from tests.reports import report

runner = CliRunner()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The server that every command of this test talks to."""
    stub = Stub(httpx.Response(500))

    class Stubbed(client.Client):
        def __init__(self, server: str) -> None:
            super().__init__(server, transport=httpx.MockTransport(stub._answer), pause=stub.pauses.append)

    monkeypatch.setattr(main, "Client", Stubbed)
    monkeypatch.setattr("cli.watch.POLL_S", 0)
    return stub


def test_version_and_help() -> None:
    assert runner.invoke(main.app, ["--version"]).stdout.startswith("topwork 0.")
    shown = runner.invoke(main.app, ["--help"]).stdout
    assert all(name in shown for name in ("serve", "submit", "watch", "download", "demo", "fetch-demo"))


def test_the_command_line_starts_without_torch() -> None:
    code = "import sys, cli.main, cli.serve, cli.demo, cli.fetch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
        httpx.Response(200, json={"items": []}),
        httpx.Response(201, json={"id": "ds_1", "name": "a.csv", "understood": UNDERSTOOD}),
        httpx.Response(202, json=job("queued")),
        httpx.Response(200, json=job("succeeded")),
    ]
    result = runner.invoke(main.app, ["submit", str(spec), "--data", f"a={data}", "--watch"])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["job_1", "job_1: succeeded, 100% overall"]
    assert result.stderr.splitlines()[:4] == [
        "a.csv: 1,300 rows",
        "  columns: column1 (text, 3 empty), column2 (text: [b]good 900, bad 400)",
        "  left out: image, which is binary",
        "  It has no header line.",
    ]
    assert json.loads(stub.requests[2].content) == {"task": {"data": {"dataset": "ds_1"}}}


def test_watch_of_a_failed_job_exits_1_with_the_reason(stub: Stub) -> None:
    stub.answers = [httpx.Response(200, json=job("failed", error={"code": "x", "message": "out of [bold]memory"}))]
    result = runner.invoke(main.app, ["watch", "job_1"])
    assert result.exit_code == 1
    assert result.stderr == "job job_1 failed: out of [bold]memory\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["watch"],
        ["nonsense"],
        ["submit", "no-such-file.json"],
        ["submit", __file__, "--idempotency-key", "é"],
        ["serve", "--port", "0"],
        ["demo", "--seed", "-1"],
        ["keys", "create", "--expires-in-days", "999999999999999"],
    ],
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    assert runner.invoke(main.app, arguments).exit_code == 2


def test_submit_of_a_name_that_is_not_given_exits_2(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"task": {"data": {"dataset": "@a"}}}')
    result = runner.invoke(main.app, ["submit", str(tmp_path / "spec.json")])
    assert (result.exit_code, stub.requests) == (2, [])


def test_a_folder_that_cannot_be_made_is_one_line(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stub.answers = [httpx.Response(200, json={"items": [{"path": "a.json", "sha256": "0" * 64, "href": "/a"}]})]
    wrong = str(tmp_path / "file" / "folder")
    for arguments in (["download", "job_1", wrong], ["serve", "--data-dir", wrong]):
        result = runner.invoke(main.app, arguments)
        assert (result.exit_code, result.stderr) == (1, f"{wrong}: Not a directory\n")


def test_a_new_data_folder_has_a_place_for_models(tmp_path: Path) -> None:
    """A port that is taken ends it before a part starts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert runner.invoke(main.app, ["serve", "--port", port, "--data-dir", str(tmp_path / "data")]).exit_code == 1
    assert (tmp_path / "data" / "models").is_dir()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_serve_opens_itself_to_others_only_with_keys(host: str, tmp_path: Path) -> None:
    from cli.serve import ServeError, _keys

    def asked(to: str) -> str:
        return _keys(to, settings)["TOPWORK_REQUIRE_KEYS"]

    result = runner.invoke(main.app, ["serve", "--host", host, "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "topwork keys create" in result.stderr
    settings = Settings(data_dir=tmp_path)
    create = ["keys", "create", "--data-dir", str(tmp_path)]
    assert runner.invoke(main.app, [*create, "--scope", "read"]).exit_code == 0
    with pytest.raises(ServeError):
        asked(host)  # that key could not make others
    made = runner.invoke(main.app, create)
    assert made.exit_code == 0 and len(made.stdout.strip()) > 43
    assert (asked(host), asked("127.0.0.1"), asked("::1"), asked("localhost")) == ("true", "false", "false", "false")


def test_a_key_goes_along_with_every_request(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_KEY", "topwork_secret")
    stub.answers = [httpx.Response(200, json=job("succeeded"))]
    assert runner.invoke(main.app, ["watch", "job_1"]).exit_code == 0
    assert stub.requests[0].headers["authorization"] == "Bearer topwork_secret"


def test_watch_ends_with_what_to_mind_before_the_numbers(stub: Stub) -> None:
    made = report(warnings=["no better [/x]"])
    stub.answers = [httpx.Response(200, json=job("succeeded", metrics=made))]
    result = runner.invoke(main.app, ["watch", "job_1"])
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:3] == [
        "Mind: no better [/x]",
        "81.9% accuracy on the test rows (dense 87.6%), 9.50% of what the budget counts kept",
    ]


@pytest.mark.parametrize("key", ["topwork_a\rb", "topwork_é"])
def test_a_key_that_cannot_be_one_is_not_shown(stub: Stub, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("TOPWORK_KEY", key)
    result = runner.invoke(main.app, ["watch", "job_1"])
    assert (result.exit_code, stub.requests) == (1, [])
    assert "TOPWORK_KEY: holds a character" in result.stderr and key not in result.stderr
    monkeypatch.setenv("TOPWORK_KEY", "topwork_secret\r\n")
    stub.answers = [httpx.Response(200, json=job("succeeded"))]
    assert runner.invoke(main.app, ["watch", "job_1"]).exit_code == 0


def test_folders_of_any_name(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "download_all", lambda *_call: [])
    result = runner.invoke(main.app, ["download", "job_1", str(tmp_path / "out[/x]")])
    assert (result.exit_code, result.stdout.split(",")[0]) == (0, f"0 files in {tmp_path}/out[/x]")
    made = runner.invoke(main.app, ["keys", "create", "--data-dir", str(tmp_path / "a?b %20#")])
    assert made.exit_code == 0 and (tmp_path / "a?b %20#" / "topwork.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["a?b %20#"]


@pytest.mark.parametrize(
    ("database_url", "folder", "told"),
    [
        (None, "file/x", "Not a directory"),
        ("nonsense", "x", "Could not parse"),
        ("mysql://host/name", "x", "MySQLdb"),
        ("sqlite:////proc/no/where.db", "x", "unable to open database file"),
    ],
)
def test_a_database_that_cannot_be_had_is_told_in_a_line(
    database_url: str | None, folder: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    if database_url:
        monkeypatch.setenv("TOPWORK_DATABASE_URL", database_url)
    where = ["--data-dir", str(tmp_path / folder)]
    for command in (["keys", "create", *where], ["migrate", *where], ["serve", "--port", "8123", *where]):
        result = runner.invoke(main.app, command)
        assert result.exit_code == 1 and told in result.stderr and result.stdout == ""


def test_a_server_uses_the_data_folder_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_DATA_DIR", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    serve = runner.invoke(main.app, ["serve"])
    assert (serve.exit_code, serve.stderr) == (1, f"{tmp_path / 'file'}: File exists\n")
    monkeypatch.setenv("TOPWORK_DATA_DIR", str(tmp_path))
    for _ in range(2):
        assert runner.invoke(main.app, ["migrate"]).exit_code == 0
    database = Database(f"sqlite:///{tmp_path / 'topwork.db'}")
    assert database.schema_fault() is None
    database.close()


def test_a_tenant_has_a_plain_name(tmp_path: Path) -> None:
    wrong = ["keys", "create", "--tenant", "a/b", "--data-dir", str(tmp_path)]
    assert runner.invoke(main.app, wrong).exit_code == 2
