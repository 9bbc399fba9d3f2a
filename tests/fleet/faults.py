"""Faults between machines, with containers: `make fleet-faults` says of each what became of the job.

A tiny model is pruned for about a minute by two workers; meanwhile a part is killed, frozen, cut off, wiped or
replaced. However that goes, the job has to end well, once, and to repeat no more than a minute of its work; and who
watches its events through nginx, before two API, sees each of them once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial

import httpx

from tests.fleet import beside
from tests.fleet.__main__ import build
from tests.fleet.composed import Fleet
from tests.fleet.gpus import join
from tests.fleet.network import cut_off, cut_off_from
from tests.fleet.processes import Fault, kill, pause, restart
from tests.fleet.site import moved_in, tried
from tests.fleet.state import fail_over, fill, small_volume, wipe
from tests.fleet.versions import clocks_apart, upgrade

PORT = 8012
LEASE_S = 6
LONG_S = 3 * LEASE_S
SMALL_MB = 64
LEASE = {"TOPWORK_LEASE_S": str(LEASE_S), "TOPWORK_HEARTBEAT_S": "1"}

# With an S3 server, and two API behind nginx; the last ones leave the fleet another than it was.
APART: Mapping[str, Fault] = {
    "worker cut off from all": cut_off("worker", LONG_S),
    "worker cut off from Redis": cut_off_from("worker", "redis", LONG_S),
    "worker cut off from PostgreSQL": cut_off_from("worker", "postgres", LONG_S),
    "worker cut off from S3": cut_off_from("worker", "s3", 40),
    "worker killed": kill("worker"),
    "API killed": kill("api"),
    "relay killed": kill("relay"),
    "PostgreSQL killed": kill("postgres"),
    "Redis killed": kill("redis"),
    "worker frozen": pause("worker", LONG_S),
    "API frozen": pause("api", LONG_S),
    "relay frozen": pause("relay", LONG_S),
    "PostgreSQL frozen": pause("postgres", LONG_S),
    "Redis frozen": pause("redis", LONG_S),
    "S3 frozen": pause("s3", LONG_S),
    "Redis wiped": wipe,
    "PostgreSQL restarted": restart("postgres"),
    "PostgreSQL failed over": fail_over,
    "worker with made-up GPUs joins": join,
    "clocks an hour apart": clocks_apart,
    "all parts upgraded": upgrade,
}
# With one small volume that all parts share.
TOGETHER: Mapping[str, Fault] = {"disk full": partial(fill, seconds=60)}


def apart(fleet: Fleet) -> None:
    """Start it."""
    fleet.up({"api": 2, "worker": 2})


def together(fleet: Fleet) -> None:
    """Start it on a small volume."""
    small_volume(fleet, SMALL_MB)
    fleet.up({"worker": 2})


def attempted(fleet: Fleet, up: Callable[[Fleet], None], faults: Mapping[str, Fault]) -> int:
    """Start a fleet, do faults to it, one after the other; how many a job did not survive."""
    failed = 0
    try:
        up(fleet)
        site = moved_in(fleet)
        for name, fault in faults.items():
            try:
                print(f"{name}: {tried(site, fault)}", flush=True)
            except (AssertionError, RuntimeError, httpx.HTTPError, subprocess.CalledProcessError) as error:
                failed += 1
                print(f"{name}: FAILED: {error}", flush=True)
    finally:
        fleet.end()
    return failed


def main(arguments: list[str] | None = None) -> int:
    """Exit code: how many faults a job did not survive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[*APART, *TOGETHER], default=[*APART, *TOGETHER])
    only, failed = parser.parse_args(arguments).only, 0
    build()
    beside.make()
    if some := {name: fault for name, fault in APART.items() if name in only}:
        failed += attempted(Fleet("topwork-apart", LEASE | beside.STORAGE, PORT, ["s3", "nginx"]), apart, some)
    if some := {name: fault for name, fault in TOGETHER.items() if name in only}:
        failed += attempted(Fleet("topwork-together", LEASE, PORT), together, some)
    return failed


if __name__ == "__main__":
    sys.exit(main())
