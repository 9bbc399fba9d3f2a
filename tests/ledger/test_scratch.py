"""Scratch folders: gone with the block; of a killed process, at the next sweep, and of a living one, never."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from multiprocessing import util
from pathlib import Path

import pytest

from core.ledger.files.scratch import for_all, scratch, sweep
from core.ledger.settings import Settings

HOLD = """
import sys
from pathlib import Path
from core.ledger.files.scratch import scratch
from core.ledger.settings import Settings
with scratch(Settings(data_dir=Path(sys.argv[1]))) as folder:
    (folder / "upload").write_bytes(b"a")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_a_folder_goes_with_its_block(settings: Settings) -> None:
    sweep(settings)  # where there is none yet
    with pytest.raises(KeyError), scratch(settings) as folder:
        (folder / "upload").write_bytes(b"a")
        raise KeyError
    assert not list(settings.scratch_dir.iterdir())


def test_temporary_files_of_a_process_can_all_lie_there_but_for_sockets(settings: Settings) -> None:
    before = tempfile.gettempdir()
    with for_all(settings), tempfile.NamedTemporaryFile() as file:
        assert Path(file.name).parent == settings.scratch_dir
        assert not Path(util.get_temp_dir()).is_relative_to(settings.scratch_dir)
    assert tempfile.gettempdir() == before


def test_only_what_killed_processes_have_left_is_swept(settings: Settings) -> None:
    command = [sys.executable, "-c", HOLD, str(settings.data_dir)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        folder = Path(other.stdout.readline().strip())
        sweep(settings)
        assert (folder / "upload").exists()
    finally:
        other.kill()
        other.communicate()
    assert folder.exists()
    sweep(settings)
    assert not folder.exists()
