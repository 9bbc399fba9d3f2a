"""Faults of processes: a container's first process killed, frozen or stopped."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from tests.fleet.bases import docker
from tests.fleet.site import Site

Fault = Callable[[Site, str], object]


def one_of(site: Site, service: str, address: str) -> str:
    """A container of the service; of the workers, that of the job; of the API, that which its events are read from."""
    if service == "worker":
        return site.fleet.container(site.worker_of(address))
    return site.fleet.container(site.api_of_stream() if service == "api" else f"{service}.0")


def process(container: str) -> str:
    """Its first process, by its number on this machine."""
    return docker("inspect", "--format", "{{.State.Pid}}", container)


def kill(service: str) -> Fault:
    """Kill a service's container with SIGKILL; Docker starts it again, as the compose file says."""

    def fault(site: Site, address: str) -> None:
        subprocess.run(["kill", "-9", process(one_of(site, service, address))], check=True)

    return fault


def pause(service: str, seconds: float) -> Fault:
    """Freeze a service's container for a while."""

    def fault(site: Site, address: str) -> None:
        container = one_of(site, service, address)
        docker("pause", container)
        time.sleep(seconds)
        docker("unpause", container)

    return fault


def restart(service: str) -> Fault:
    """Stop a service's container by its signal, and start it again."""

    def fault(site: Site, address: str) -> None:
        docker("restart", one_of(site, service, address))

    return fault
