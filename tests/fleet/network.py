"""Faults of the network: a container that no longer hears all others, or one of them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.fleet.bases import docker
from tests.fleet.processes import Fault, one_of, process
from tests.fleet.site import Site


def cut_off(service: str, seconds: float) -> Fault:
    """Take a container off the network, and put it back."""

    def fault(site: Site, address: str) -> None:
        container = one_of(site, service, address)
        docker("network", "disconnect", site.fleet.name, container)
        time.sleep(seconds)
        docker("network", "connect", "--alias", service, site.fleet.name, container)

    return fault


def cut_off_from(service: str, other: str, seconds: float) -> Fault:
    """Let packets between two containers be lost, without a word, for a while; all others go through."""

    def fault(site: Site, address: str) -> None:
        with lost(one_of(site, service, address), site.address_of(f"{other}.0")):
            time.sleep(seconds)

    return fault


@contextmanager
def lost(container: str, address: str) -> Iterator[None]:
    """Drop what the container sends to an address, and what comes from there."""
    rules = [("OUTPUT", "--destination", address), ("INPUT", "--source", address)]
    inside = ["nsenter", "--target", process(container), "--net", "iptables", "--wait"]
    for chain, *of in rules:
        subprocess.run([*inside, "--insert", chain, *of, "--jump", "DROP"], check=True)
    yield
    for chain, *of in rules:
        subprocess.run([*inside, "--delete", chain, *of, "--jump", "DROP"], check=True)
