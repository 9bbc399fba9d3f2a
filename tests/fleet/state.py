"""Faults of what keeps the state: Redis wiped, PostgreSQL failed over, the disk full."""

from __future__ import annotations

import time

import httpx

from tests.fleet.bases import docker, named
from tests.fleet.composed import Fleet
from tests.fleet.site import Site, upload

PGDATA = "/var/lib/postgresql/data"
PASSWORD = "PGPASSWORD=topwork"


def wipe(site: Site, _address: str) -> None:
    """Take all from Redis."""
    docker("exec", site.fleet.container("redis.0"), "redis-cli", "FLUSHALL")


def fail_over(site: Site, _address: str) -> str:
    """Kill PostgreSQL for good, and promote a replica that had to have every commit before it was one."""
    fleet = site.fleet
    primary, replica = fleet.container("postgres.0"), fleet.container("replica.0")
    sql(primary, f"COPY (SELECT 'host replication all all scram-sha-256') TO PROGRAM 'cat >> {PGDATA}/pg_hba.conf'")
    sql(primary, "SELECT pg_reload_conf()")
    copied = f"chmod 700 {PGDATA} && pg_basebackup --host postgres --username topwork --pgdata {PGDATA}"
    command = ["-c", f"test -s {PGDATA}/PG_VERSION || {{ {copied} --write-recovery-conf --checkpoint fast; }}"]
    command[1] += f"; exec postgres -D {PGDATA}"
    words = ["--network", fleet.name, "--restart", "unless-stopped", "--entrypoint", "sh", "--env", PASSWORD]
    docker("run", "--detach", "--name", replica, *words, named("postgres"), *command)
    try:
        until(primary, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", "1")
        sql(primary, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        sql(primary, "SELECT pg_reload_conf()")
        until(primary, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", "1")
        time.sleep(5)
    except Exception:
        docker("rm", "--force", "--volumes", replica)
        raise
    began = time.monotonic()
    docker("rm", "--force", "--volumes", primary)
    sql(replica, "SELECT pg_promote()")
    docker("network", "disconnect", fleet.name, replica)  # the name moves
    docker("network", "connect", "--alias", "postgres", fleet.name, replica)
    docker("rename", replica, primary)
    return f"the replica took over in {time.monotonic() - began:.0f} s"


def sql(container: str, statement: str) -> str:
    """What a statement gives, inside the container."""
    asked = ["psql", "--host", "127.0.0.1", "--username", "topwork", "-Atc", statement]
    return docker("exec", "--env", PASSWORD, container, *asked)


def until(container: str, query: str, value: str) -> None:
    """Wait until a query gives the value."""
    end = time.monotonic() + 60
    while sql(container, query) != value:
        assert time.monotonic() < end, query
        time.sleep(0.5)


def small_volume(fleet: Fleet, mb: int) -> None:
    """Make the fleet's shared volume one of so many MB; to be called before `up`."""
    options = ["type=tmpfs", "device=tmpfs", f"o=size={mb}m,uid=10001,gid=10001"]
    words = [word for option in options for word in ("--opt", option)]
    docker("volume", "create", *words, f"{fleet.name}-data")


def fill(site: Site, _address: str, *, seconds: float) -> str:
    """Leave no byte of the shared volume for a while; what an upload is answered meanwhile."""
    api = site.fleet.container("api.0")
    docker("exec", api, "sh", "-c", "cat /dev/zero > /data/filler 2> /dev/null || true")
    try:
        time.sleep(seconds)
        answer = try_upload(site.client)
    finally:
        docker("exec", api, "rm", "/data/filler")
    upload(site.client)
    return f"an upload was answered {answer} meanwhile"


def try_upload(client: httpx.Client) -> int:
    """The status of the answer."""
    file = ("rows.csv", b"text,label\n" + b"a,b\n" * 100)
    return client.post("/v1/datasets", files={"file": file}, timeout=60).status_code
