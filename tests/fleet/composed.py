"""docker-compose.yml turned into `docker` calls, service by service, in its order and with its health checks."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.fleet.bases import ROOT, docker

UNTIL_S = 240.0  # until a service is healthy, or has ended
BESIDE = Path(__file__).with_name("beside.yml")


def arguments(service: Mapping[str, Any], settings: Mapping[str, str], volumes: str) -> list[str]:
    """Options of `docker run` that say what the service says; named volumes get the prefix `volumes`."""
    found = []
    for name, value in {**service.get("environment", {}), **settings}.items():
        found += ["--env", f"{name}={filled(str(value), settings)}"]
    for mount in service.get("volumes", ()):
        source, _, rest = mount.partition(":")
        found += ["--volume", f"{volumes}-{source}:{rest}"]
    flags = {"init": "--init", "read_only": "--read-only"}
    found += [flag for name, flag in flags.items() if service.get(name)]
    lists = {"tmpfs": "--tmpfs", "cap_drop": "--cap-drop", "security_opt": "--security-opt"}
    found += [word for name, flag in lists.items() for value in service.get(name, ()) for word in (flag, value)]
    if "restart" in service:
        found += ["--restart", service["restart"]]
    if "mem_limit" in service:
        found += ["--memory", filled(str(service["mem_limit"]), settings)]
    if "stop_grace_period" in service:
        found += ["--stop-timeout", str(service["stop_grace_period"]).rstrip("s")]
    if check := service.get("healthcheck"):
        found += health(check)
    return found


def read(file: Path) -> dict[str, Any]:
    """The services of a compose file."""
    found: dict[str, Any] = yaml.safe_load(file.read_text())["services"]
    return found


def health(check: Mapping[str, Any]) -> list[str]:
    """Options of a health check; a shell becomes it, since of one that is late Docker ends the first process only."""
    kind, *words = check["test"]
    command = words[0] if kind == "CMD-SHELL" else shlex.join(["exec", *words])
    found = ["--health-cmd", command]
    for name in ("interval", "timeout", "retries", "start_period"):
        if name in check:
            found += [f"--health-{name.replace('_', '-')}", str(check[name])]
    return found


def filled(value: str, settings: Mapping[str, str]) -> str:
    """With `${NAME:-default}` replaced."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: settings.get(found[1], found[2]), value)


class Fleet:
    """The services as containers of one network; `settings` are those of an .env file."""

    def __init__(
        self, name: str, settings: Mapping[str, str] | None = None, port: int = 8000, beside: Sequence[str] = ()
    ) -> None:
        """`beside`: which services of beside.yml it has, too; nginx, if it is one, has the port instead of the API."""
        self.name, self.settings, self.port = name, dict(settings or {}), port
        self.front = "nginx" if "nginx" in beside else "api"
        self.services: dict[str, Any] = {name: read(BESIDE)[name] for name in beside}
        self.services |= read(ROOT / "docker-compose.yml")
        self.started: list[str] = []
        docker("network", "create", name)

    def up(self, scale: Mapping[str, int] | None = None) -> None:
        """Start all services but those of a profile, each once what it depends on is ready; wait until all are."""
        waiting = {name: service for name, service in self.services.items() if "profiles" not in service}
        done: set[str] = set()
        while waiting:
            ready = [name for name, one in waiting.items() if {*one.get("depends_on", ())} <= done]
            assert ready, f"services that wait for each other: {[*waiting]}"
            for name in ready:
                service = waiting.pop(name)
                for needed, how in service.get("depends_on", {}).items():
                    self.wait_for(needed, how["condition"])
                for number in range((scale or {}).get(name, 1)):
                    self.start(name, number)
                done.add(name)
        for name in self.started:
            if "healthcheck" in self.services[name.partition(".")[0]]:
                self.until(name, "service_healthy")

    def start(self, service: str, number: int = 0, *, image: str = "", words: Sequence[str] = ()) -> str:
        """Start one container of a service, of another image and with more words for Docker where these are given.

        Returns its name, by which `container` finds it.
        """
        said, name = self.services[service], f"{service}.{number}"
        words = [*arguments(said, self.settings if "build" in said else {}, self.name), *words]
        if service == self.front and number == 0:
            words += ["--publish", f"127.0.0.1:{self.port}:{said['ports'][0].rpartition(':')[2]}"]
        network = ["--network", self.name, "--network-alias", service]
        self.started.append(name)  # and to be removed, even if it does not start
        docker(
            "run",
            "--detach",
            "--name",
            self.container(name),
            *network,
            *words,
            image or said["image"],
            *said.get("command", ()),
        )
        return name

    def replace(self, name: str, image: str = "", words: Sequence[str] = ()) -> float:
        """Stop a container as it wants to be stopped, and start one of its image, or of another; seconds to stop."""
        image = image or docker("inspect", "--format", "{{.Config.Image}}", self.container(name))
        began = time.monotonic()
        docker("stop", self.container(name))
        took = time.monotonic() - began
        docker("rm", self.container(name))
        self.started.remove(name)
        service, _, number = name.partition(".")
        self.start(service, int(number), image=image, words=words)
        return took

    def once(self, service: str, *command: str, image: str = "") -> str:
        """Run a command in a fresh container of a service, as `docker compose run --rm`; what it prints."""
        said = self.services[service]
        alone = {key: value for key, value in said.items() if key not in ("healthcheck", "restart")}
        words = arguments(alone, self.settings, self.name)
        return docker("run", "--rm", "--network", self.name, *words, image or said["image"], *command)

    def wait_for(self, service: str, condition: str) -> None:
        """Wait until every container of a service is as another asks."""
        for name in self.started:
            if name.partition(".")[0] == service:
                self.until(name, condition)

    def until(self, name: str, condition: str) -> None:
        """Wait until a container is healthy, or has completed; AssertionError with its log if it will not be."""
        end = time.monotonic() + UNTIL_S
        while time.monotonic() < end:
            state = self.state(name)
            if condition == "service_completed_successfully" and state["Status"] == "exited":
                assert state["ExitCode"] == 0, self.log(name)
                return
            if condition == "service_healthy":
                assert state["Running"], self.log(name)
                if state["Health"]["Status"] == "healthy":
                    return
            if condition == "service_started" and state["Running"]:
                return
            time.sleep(0.5)
        raise AssertionError(f"{name} is not {condition}: {self.log(name)}")

    def answers(self, name: str) -> None:
        """Wait until the health check of a container passes, which Docker itself runs only now and then."""
        kind, *test = self.services[name.partition(".")[0]]["healthcheck"]["test"]
        command = ["sh", "-c", *test] if kind == "CMD-SHELL" else test
        end = time.monotonic() + UNTIL_S
        while subprocess.run(["docker", "exec", self.container(name), *command], capture_output=True).returncode:
            assert time.monotonic() < end, f"{name} does not become healthy: {self.log(name)}"
            time.sleep(0.5)

    def state(self, name: str) -> dict[str, Any]:
        """What Docker says of a container."""
        found: dict[str, Any] = json.loads(docker("inspect", "--format", "{{json .State}}", self.container(name)))
        return found

    def log(self, name: str) -> str:
        """The end of what a container has written."""
        command = ["docker", "logs", "--tail", "60", self.container(name)]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout

    def container(self, name: str) -> str:
        """What Docker knows a container by."""
        return f"{self.name}-{name}"

    def put(self, name: str, source: Path, target: str) -> None:
        """Copy a folder into a container that runs, as one user of it."""
        docker("cp", str(source), f"{self.container(name)}:{target}")

    def end(self) -> None:
        """Remove containers, volumes and the network."""
        for name in self.started:
            docker("rm", "--force", "--volumes", self.container(name))
        volumes = docker("volume", "ls", "--quiet", "--filter", f"name={self.name}-").split()
        if volumes:
            docker("volume", "rm", *volumes)
        docker("network", "rm", self.name)
