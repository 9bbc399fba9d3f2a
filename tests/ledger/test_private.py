"""The data folder is for its own user alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.ledger.database import open_database
from core.ledger.files.private import keep_private
from core.ledger.settings import Settings


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}


@pytest.mark.field("3. Under attack", "modes of data folder and database", "0700 and 0600")
def test_a_new_folder_and_its_database_are_closed_to_others(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    database = open_database(settings)  # as `topwork migrate` and `topwork keys create` do, before any server
    database.migrate()
    database.close()
    assert all(not mode & 0o077 for mode in modes(settings.data_dir).values()), modes(settings.data_dir)
    assert keep_private(settings.data_dir) == []
    (settings.data_dir / "new").mkdir()
    (settings.data_dir / "file").touch()
    assert modes(settings.data_dir)["new"] == 0o700 and modes(settings.data_dir)["file"] == 0o600


def test_what_an_earlier_version_left_open_is_closed_and_told(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "models").mkdir(parents=True)
    for name in ("topwork.db", "topwork.db-wal"):
        (data / name).touch()
    assert modes(data) == {"data": 0o755, "models": 0o755, "topwork.db": 0o644, "topwork.db-wal": 0o644}
    told = keep_private(data)
    assert [line.partition(" ")[0] for line in told] == [str(path) for path in (data, *sorted(data.glob("topwork*")))]
    assert modes(data) == {"data": 0o700, "models": 0o755, "topwork.db": 0o600, "topwork.db-wal": 0o600}
    assert keep_private(data) == []


def test_a_home_folder_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    tmp_path.chmod(0o755)
    assert keep_private(tmp_path) == [] and modes(tmp_path) == {tmp_path.name: 0o755}
