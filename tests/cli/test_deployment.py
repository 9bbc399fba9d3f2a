"""What ships beside the code: the compose file, the Makefile, the pinned versions."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from cli import serve
from core.ledger.settings import Settings
from tests.fleet.composed import arguments, filled

ROOT = Path(__file__).parents[2]


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert found.keys() == {"postgres", "redis", "migrate", "api", "relay", "worker", "worker-gpu"}
    return found


def ours(services: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in services.values() if "build" in one]


def test_every_variable_of_the_compose_file_is_a_setting_and_every_setting_is_documented(
    services: dict[str, Any],
) -> None:
    settings = {f"TOPWORK_{name.upper()}" for name in Settings.model_fields}
    used = {name for one in ours(services) for name in one["environment"]}
    assert {"TOPWORK_DATABASE_URL", "TOPWORK_BROKER_URL"} <= used <= settings
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    named = set(re.findall(r"\bTOPWORK_[A-Z_]+", pages))
    assert settings <= named
    assert named <= settings | {"TOPWORK_KEY", "TOPWORK_SERVER"}  # of the command line


def test_every_service_is_bounded_restarted_and_looked_after(services: dict[str, Any]) -> None:
    for name, one in services.items():
        assert one["mem_limit"] and one["stop_grace_period"], name
        if name != "migrate":  # which ends
            assert one["restart"] == "unless-stopped" and one["healthcheck"]["test"], name


def test_the_readers_of_the_api_fit_into_its_memory(services: dict[str, Any]) -> None:
    api = services["api"]
    given = {name: filled(value, {}) for name, value in api["environment"].items()}
    readers = int(given["TOPWORK_MAX_READERS"]) * int(api["command"][api["command"].index("--workers") + 1])
    limit = int(filled(api["mem_limit"], {}).removesuffix("g")) * 2**30
    assert readers * int(given["TOPWORK_READER_MEMORY_BYTES"]) + 2**30 <= limit
    manifests = [yaml.safe_load_all(file.read_text()) for file in (ROOT / "docs/kubernetes").glob("*.yaml")]
    objects = {(one["kind"], one["metadata"]["name"]): one for one in chain.from_iterable(manifests)}
    settings = objects["ConfigMap", "topwork"]["data"]
    assert all(settings[name] == given[name] for name in ("TOPWORK_MAX_READERS", "TOPWORK_READER_MEMORY_BYTES"))
    (container,) = objects["Deployment", "topwork-api"]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == f"{limit // 2**30}Gi"


def test_what_we_run_has_no_root_and_no_capability(services: dict[str, Any]) -> None:
    for one in ours(services):
        assert one["read_only"] and one["cap_drop"] == ["ALL"]
        assert one["security_opt"] == ["no-new-privileges:true"]
    users = re.findall(r"^(?:FROM .* AS|USER) (\w\S*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users[-4:] == ["api", "topwork", "worker", "topwork"]


def test_what_the_compose_file_says_is_said_to_docker(services: dict[str, Any]) -> None:
    """By tests/fleet, which stands in for Compose."""
    elsewhere = {"image", "build", "command", "depends_on", "ports", "profiles", "deploy", "env_file"}
    words = {key: arguments({key: value}, {}, "v") for one in services.values() for key, value in one.items()}
    assert {key for key, said in words.items() if not said} == elsewhere & words.keys()


def test_images_are_pinned_and_those_we_build_are_there(services: dict[str, Any]) -> None:
    file = (ROOT / "Dockerfile").read_text()
    targets = {name: base for base, name in re.findall(r"^FROM (\S+) AS (\S+)$", file, re.MULTILINE)}
    bases = {*targets.values()} - targets.keys()
    for image in bases | {one["image"] for one in services.values() if "build" not in one}:
        assert re.search(r":\d+\.\d+(\.\d+)?-", image), image
    for one in ours(services):
        assert one["build"]["target"] in targets
        for argument in one["build"].get("args", {}):
            assert f"ARG {argument}\n" in file
    assert {name for name, one in services.items() if one.get("build", {}).get("target") == "worker"} == {
        "worker",
        "worker-gpu",
    }


def test_every_command_of_the_compose_file_can_be_run(services: dict[str, Any]) -> None:
    commands = [one["command"] for one in ours(services)]
    commands += [one["healthcheck"]["test"][1:] for one in ours(services) if "healthcheck" in one]
    for program, *words in commands:
        assert Path(sys.executable).with_name(program).exists(), program
        words = words[words[0] == "-P" :]
        if words[0] == "-m":
            assert importlib.util.find_spec(words[1]) is not None
        elif words[0] == "-c":
            compile(words[1], "healthcheck", "exec")


def test_the_api_image_holds_no_torch_and_all_that_it_imports(tmp_path: Path) -> None:
    light, full = {"topwork", *installed("s3")}, installed("s3", "worker")
    heavy = {name for name in full if re.match("torch|transformers|onnx|nvidia", name)}
    assert {"torch", "transformers"} <= heavy and not heavy & light
    owners = {module: set(map(canonical, names)) for module, names in packages_distributions().items()}
    missing = [module for module, names in owners.items() if not light & names and not (ROOT / module).exists()]
    assert {"torch", "pytest"} <= set(missing)
    program = """if True:
        import sys
        sys.modules.update(dict.fromkeys(sys.argv[1:]))  # whatever imports one of them fails
        import alembic.config, cli.commands, cli.serve, core.ledger.files.s3, topwork.cli.main
        import worker.health, worker.relay, worker.supervise
        from api.main import create_app
        assert create_app().openapi()
        from worker.app import app
    """
    done = subprocess.run(
        [sys.executable, "-c", program, *missing],
        env=os.environ | {"TOPWORK_DATA_DIR": str(tmp_path), "TOPWORK_STORAGE_URL": "s3://bucket"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    worker = "import runpy, sys; sys.modules['torch'] = None; runpy.run_module('worker', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", worker], capture_output=True, text=True)
    assert done.returncode == 1 and "pip install -e '.[worker]'" in done.stderr


def installed(*extras: str) -> set[str]:
    """The distributions that `pip install .[extras]` brings, by what the installed ones say that they require."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    client = tomllib.loads((ROOT / "client/pyproject.toml").read_text())["project"]
    asked = (
        client["dependencies"]
        + project["dependencies"]
        + [one for extra in extras for one in project["optional-dependencies"][extra]]
    )
    todo, done = [Requirement(one) for one in asked], set[tuple[str, str]]()
    while todo:
        one = todo.pop()
        if one.marker is not None and not one.marker.evaluate():
            continue
        for extra in {"", *one.extras} - {extra for name, extra in done if name == canonical(one.name)}:
            done.add((canonical(one.name), extra))
            for text in distribution(one.name).requires or ():
                required = Requirement(text)
                if required.marker is None or required.marker.evaluate({"extra": extra}):
                    required.marker = None
                    todo.append(required)
    return {name for name, _ in done}


def canonical(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def test_the_compose_file_publishes_nothing_beyond_loopback(services: dict[str, Any]) -> None:
    """It speaks plain HTTP."""
    ports = [port for one in services.values() for port in one.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_make_help_names_every_target() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets is not None
    assert {line.split()[0] for line in shown.splitlines() if line[:1] == " "} == set(targets.group(1).split())
    using, _, developing = shown.partition("\nDeveloping it\n")
    assert using.startswith("Using it\n") and "  serve " in using and "  test " in developing


def test_every_dependency_is_pinned() -> None:
    projects = [tomllib.loads((folder / "pyproject.toml").read_text())["project"] for folder in (ROOT, ROOT / "client")]
    lists = [one for project in projects for one in (project["dependencies"], *_extras(project))]
    asked = {canonical(Requirement(one).name) for one in chain(*lists)} - {"topwork-server"}
    pinned = {
        canonical(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    assert asked <= pinned


def test_images_have_what_the_client_asks_for() -> None:
    """Its packages come with the server's: the client itself is installed without."""
    server, client = (tomllib.loads((ROOT / folder / "pyproject.toml").read_text()) for folder in ("", "client"))
    assert {*client["project"]["dependencies"]} <= {*server["project"]["dependencies"]}
    assert (ROOT / "Dockerfile").read_text().count("--no-deps ./client .\n") == 2


def _extras(project: dict[str, Any]) -> list[list[str]]:
    return list(project.get("optional-dependencies", {}).values())


def test_every_file_beside_the_code_is_part_of_the_package() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {
        file
        for package, names in patterns.items()
        for name in names
        for file in (ROOT / package.replace(".", "/")).glob(name)
    }
    rooms = [file for room in ("api", "cli", "core", "worker") for file in (ROOT / room).rglob("*.*")]
    beside = {file for file in rooms if file.is_file() and file.suffix not in (".py", ".pyc")}
    assert beside and beside == packed


def test_serve_without_torch_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda _name: None)
    with pytest.raises(serve.ServeError, match=r"pip install -e '\.\[worker\]'"):
        serve.Supervisor("127.0.0.1", 0, tmp_path, print)._start(Settings(data_dir=tmp_path))
