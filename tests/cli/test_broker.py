"""Where the embedded broker's socket lies."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import redis

from cli.broker import MAX_SOCKET_PATH, answers, socket_path


def test_a_short_path_is_kept_and_a_long_one_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    short, long = Path("/srv/topwork/valkey.sock"), Path("/srv") / ("x" * 120) / "valkey.sock"
    assert socket_path(short) == short
    replaced = socket_path(long)
    assert replaced == socket_path(long) != socket_path(long.with_name("other.sock"))
    assert len(str(Path("/tmp") / replaced.relative_to(tmp_path))) <= MAX_SOCKET_PATH
    assert replaced.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["a?b", "a#b", "a;b", "a%41b", "a b"])
def test_a_socket_can_be_named_in_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = socket_path(Path(f"/{name}/valkey.sock"))
    assert redis.from_url(f"unix://{path}").connection_pool.connection_kwargs["path"] == str(path)


def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    socket_path(Path("/srv") / ("x" * 120)).parent.chmod(0o777)
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        socket_path(Path("/srv") / ("x" * 120))


def test_no_server_is_no_answer(tmp_path: Path) -> None:
    assert not answers(tmp_path / "none.sock")
