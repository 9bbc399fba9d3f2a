"""Commands of a server's own machine: help, exit codes, and what they leave."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.ledger.database import Database
from core.ledger.settings import Settings
from topwork.cli.main import app

runner = CliRunner()


def test_version_and_help() -> None:
    assert runner.invoke(app, ["--version"]).stdout.startswith("topwork 0.")
    shown = runner.invoke(app, ["--help"]).stdout
    assert all(name in shown for name in ("serve", "submit", "watch", "download", "demo", "fetch-demo"))


def test_the_command_line_starts_without_torch() -> None:
    code = "import sys, cli.commands, cli.serve, cli.demo, cli.fetch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
    assert runner.invoke(app, arguments).exit_code == 2


def test_a_new_data_folder_has_a_place_for_models(tmp_path: Path) -> None:
    """A port that is taken ends it before a part starts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert runner.invoke(app, ["serve", "--port", port, "--data-dir", str(tmp_path / "data")]).exit_code == 1
    assert (tmp_path / "data" / "models").is_dir()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_serve_opens_itself_to_others_only_with_keys(host: str, tmp_path: Path) -> None:
    from cli.serve import ServeError, _keys

    def asked(to: str) -> str:
        return _keys(to, settings)["TOPWORK_REQUIRE_KEYS"]

    result = runner.invoke(app, ["serve", "--host", host, "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "topwork keys create" in result.stderr
    settings = Settings(data_dir=tmp_path)
    create = ["keys", "create", "--data-dir", str(tmp_path)]
    assert runner.invoke(app, [*create, "--scope", "read"]).exit_code == 0
    with pytest.raises(ServeError):
        asked(host)  # that key could not make others
    made = runner.invoke(app, create)
    assert made.exit_code == 0 and len(made.stdout.strip()) > 43
    assert (asked(host), asked("127.0.0.1"), asked("::1"), asked("localhost")) == ("true", "false", "false", "false")


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
        result = runner.invoke(app, command)
        assert result.exit_code == 1 and told in result.stderr and result.stdout == ""


def test_a_server_uses_the_data_folder_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_DATA_DIR", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    serve = runner.invoke(app, ["serve"])
    assert (serve.exit_code, serve.stderr) == (1, f"{tmp_path / 'file'}: File exists\n")
    monkeypatch.setenv("TOPWORK_DATA_DIR", str(tmp_path))
    for _ in range(2):
        assert runner.invoke(app, ["migrate"]).exit_code == 0
    database = Database(f"sqlite:///{tmp_path / 'topwork.db'}")
    assert database.schema_fault() is None
    database.close()


def test_a_tenant_has_a_plain_name(tmp_path: Path) -> None:
    wrong = ["keys", "create", "--tenant", "a/b", "--data-dir", str(tmp_path)]
    assert runner.invoke(app, wrong).exit_code == 2
