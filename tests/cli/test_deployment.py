"""What ships beside the code: the compose file, the Makefile, the pinned versions."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import yaml

from core.ledger.settings import Settings

ROOT = Path(__file__).parents[2]


def test_every_variable_of_the_compose_file_is_a_setting() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert {"postgres", "redis", "migrate", "api", "relay", "worker"} <= set(compose["services"])
    known = {f"TOPWORK_{name.upper()}" for name in Settings.model_fields}
    used = {name for one in compose["services"].values() for name in one.get("environment", {}) if "TOPWORK" in name}
    assert used
    assert used <= known


def test_the_compose_file_publishes_nothing_beyond_loopback() -> None:
    """It speaks plain HTTP."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    ports = [port for one in compose["services"].values() for port in one.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_make_help_names_every_target() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets is not None
    assert {line.split()[0] for line in shown.splitlines()} == set(targets.group(1).split())


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def name(requirement: str) -> str:
        return re.split(r"[\[<>=;\s]", requirement)[0].lower().replace("_", "-")

    asked = {name(one) for one in [*project["dependencies"], *project["optional-dependencies"]["dev"]]}
    pinned = {name(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert asked <= pinned
