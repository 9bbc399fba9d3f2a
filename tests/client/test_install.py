"""What is installed: the client as a wheel that leaves others alone; the server never."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
ROOMS = ("api", "cli", "core", "migrations", "worker")
BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
MOST_BYTES = 40e6  # of the client with all that it brings; the server took 345 MB


def build(source: Path, to: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """As pip builds a wheel, in a copy."""
    command = [sys.executable, "-c", BUILD, str(to)]
    given = {name: value for name, value in os.environ.items() if name != "TOPWORK_IMAGE"} | environment
    return subprocess.run(command, cwd=source, env=given, capture_output=True, text=True, check=False)


def copy(folder: Path, to: Path) -> Path:
    """A project's files alone."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    if folder != ROOT:
        return shutil.copytree(folder, to, ignore=ignored)
    to.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(folder / name, to)
    for room in ROOMS:
        shutil.copytree(folder / room, to / room, ignore=ignored)
    return to


@pytest.mark.slow
@pytest.mark.field(
    "4. A newcomer's hour", "the client beside packages named api, core, cli, worker", "they stay; it goes without them"
)
def test_the_client_lies_beside_packages_of_any_name_and_goes_without_them(tmp_path: Path) -> None:
    made = build(copy(ROOT / "client", tmp_path / "source"), tmp_path)
    assert made.returncode == 0, made.stderr
    wheel = tmp_path / made.stdout.split()[-1]
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    (packages,) = home.glob("lib/python3*/site-packages")
    for name in ROOMS:
        (packages / name).mkdir()
        (packages / name / "__init__.py").write_text(f"MINE = {name!r}")

    def there() -> set[Path]:
        return {path for path in packages.rglob("*") if "__pycache__" not in path.parts}

    before = there()
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], env=environment, check=True)
    added = {path.relative_to(packages).parts[0] for path in there() - before}
    assert {name for name in added if not name.endswith("dist-info")} == {"topwork"}
    assert (home / "bin" / "topwork").is_file()
    subprocess.run([*pip, "uninstall", "--yes", "topwork"], env=environment, check=True)
    assert there() == before and not (home / "bin" / "topwork").exists()


@pytest.mark.slow
@pytest.mark.field("4. A newcomer's hour", "the server as a wheel", "refused, with how to install it")
def test_the_server_is_no_package_but_in_an_image_of_its_own(tmp_path: Path) -> None:
    source = copy(ROOT, tmp_path / "source")
    refused = build(source, tmp_path)
    assert refused.returncode != 0 and not [*tmp_path.glob("*.whl")]
    assert "make venv, or pip install -e ./client -e '.[dev]'" in refused.stderr
    assert build(source, tmp_path, TOPWORK_IMAGE="1").returncode == 0
    assert "ENV TOPWORK_IMAGE=1" in (ROOT / "Dockerfile").read_text()


def test_the_client_brings_nothing_heavy() -> None:
    """What its dependencies bring, as they are installed here."""
    todo, found = ["httpx", "pydantic", "rich", "typer"], set[str]()
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        asked = map(Requirement, distribution(name).requires or ())
        todo += [one.name for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    sizes = {name: sum(file.size or 0 for file in distribution(name).files or ()) for name in found}
    assert sum(sizes.values()) < MOST_BYTES, sizes


def test_trackers_and_hubs_are_imported_when_they_are_asked_for(tmp_path: Path) -> None:
    code = (
        "import sys, topwork, topwork.tracking, topwork.hub; "
        "heavy = {'huggingface_hub', 'mlflow', 'wandb', 'trackio', 'IPython', 'sqlalchemy', 'torch'} & {*sys.modules}; "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
