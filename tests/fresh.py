"""Fresh processes in a tenth of the time: forked from one that has imported torch and transformers, and done no more.

`Fresh` stands for the words of a command line up to Python's own options: `[*fresh, "-P", "-m", MODULE]`.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

LIBRARIES = ("torch", "transformers", "onnxruntime")
CLASSES = ("AutoModelForSequenceClassification", "AutoTokenizer", "PreTrainedTokenizerFast", "BertModel")


class Fresh:
    """The command; what it talks to is started when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def __iter__(self) -> Iterator[str]:
        """Of a small program that hands its arguments, folder, environment and streams over."""
        words = (sys.executable, "-I", "-S", __file__, str(self.folder / "fresh.sock"))
        if self.process is None:
            command = [sys.executable, "-I", __file__, words[-1], str(os.getpid())]
            known_at_import = {"HF_MODULES_CACHE": str(self.folder / "modules"), "HF_HUB_OFFLINE": "1"}
            self.process = subprocess.Popen(command, env=os.environ | known_at_import)
        return iter(words)

    def stop(self) -> None:
        """End it, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def ask(address: str, arguments: list[str]) -> int:
    """Have it run, and return how it ended."""
    deadline, here = time.monotonic() + 300, socket.socket(socket.AF_UNIX)
    while True:
        try:
            here.connect(address)
            break
        except OSError:  # not up yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    asked = json.dumps([arguments, str(Path.cwd()), dict(os.environ)]).encode()
    socket.send_fds(here, [len(asked).to_bytes(4, "big")], [0, 1, 2])
    here.sendall(asked)
    return int(here.makefile().read() or 70)  # it was killed


def serve(address: str, parent: int) -> None:
    """Import, then fork for each that asks."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: not left behind by a killed test run
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{address}.new")
        for name in LIBRARIES:
            __import__(name)
        for name in CLASSES:
            getattr(sys.modules["transformers"], name)
        listening.listen(50)
        Path(f"{address}.new").rename(address)
        while True:
            there, _ = listening.accept()
            if not os.fork():
                listening.close()
                break
            there.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(there, 4, 3)
    arguments, folder, environment = json.loads(there.makefile().read(int.from_bytes(size, "big")))
    for i, stream in enumerate(streams):
        os.dup2(stream, i)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    code = ended(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    there.sendall(str(code).encode())
    os._exit(code)


def ended(arguments: list[str]) -> int:
    """Do as Python does with these arguments; the exit status."""
    alone, arguments = arguments[0], arguments[1:] if arguments[0] in ("-I", "-P") else arguments
    if alone != "-I":
        sys.path[:0] = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        elif arguments[0] == "-c":
            sys.argv = ["-c", *arguments[2:]]
            exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv, sys.path[:0] = arguments, [str(Path(arguments[0]).parent)]
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


if __name__ == "__main__":
    socket_path, *more = sys.argv[1:]
    if len(more) == 1 and more[0].isdigit():
        serve(socket_path, int(more[0]))
    else:
        sys.exit(ask(socket_path, more))
