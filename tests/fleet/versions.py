"""Parts replaced while a job runs: by those of a newer version, by those whose clock is wrong."""

from __future__ import annotations

from tests.fleet.processes import kill
from tests.fleet.site import Site


def upgrade(site: Site, address: str) -> str:
    """What docs/operating.md says: the schema, then API and relay, then the workers, one after the other."""
    fleet = site.fleet
    fleet.once("migrate", "topwork", "migrate", image="topwork-api-newer")
    for name in sorted(name for name in fleet.started if name.startswith(("api", "relay"))):
        fleet.replace(name, "topwork-api-newer")
        fleet.answers(name)
    first = site.worker_of(address)
    stopped = []
    for name in sorted((name for name in fleet.started if name.startswith("worker")), key=lambda name: name != first):
        stopped.append(fleet.replace(name, "topwork-worker-newer"))
        fleet.answers(name)
    return "workers stopped within " + " and ".join(f"{seconds:.0f} s" for seconds in stopped)


def clocks_apart(site: Site, address: str) -> None:
    """Set the relay's clock an hour ahead, those of an API and of the idle worker back; then kill the other worker."""
    fleet = site.fleet
    idle = next(name for name in fleet.started if name.startswith("worker") and name != site.worker_of(address))
    for name, hours in (("api.0", "-1h"), ("relay.0", "+1h"), (idle, "-1h")):
        image = "topwork-worker-clock" if name == idle else "topwork-api-clock"
        fleet.replace(name, image, ["--env", f"FAKETIME={hours}"])
        fleet.answers(name)
    kill("worker")(site, address)
