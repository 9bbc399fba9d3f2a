"""The data folder is for its own user alone: it holds data sets, and the secrets that webhooks are signed with."""

from __future__ import annotations

import os
import stat
from pathlib import Path

FOLDER, FILE = 0o700, 0o600


def keep_private(data_dir: Path) -> list[str]:
    """From now on, what this process and its children write is for their user alone.

    The data folder and the database that an earlier version left open to others are closed; returns what was, in words.
    """
    os.umask(0o777 & ~FOLDER)
    folder = data_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    mended = []
    for path, mode in ((folder, FOLDER), *((file, FILE) for file in sorted(folder.glob("topwork.db*")))):
        if path not in (Path("/"), Path.home()) and _close(path, mode):
            mended.append(f"{path} could be read by others: it is closed to them now")
    return mended


def _close(path: Path, mode: int) -> bool:
    """Whether it was open, and ours to close."""
    found = path.stat()
    if found.st_uid != os.geteuid() or not stat.S_IMODE(found.st_mode) & ~mode:
        return False
    path.chmod(stat.S_IMODE(found.st_mode) & mode)
    return True
