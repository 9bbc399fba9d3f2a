"""A client can be generated from the description of the API, with nothing left out."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
GENERATOR = "openapi-python-client==0.29.1"  # in an environment of its own: it wants an older typer than we have


@pytest.mark.slow
@pytest.mark.field("4. A newcomer's hour", "a client generated from openapi.json", "without a warning")
def test_a_client_is_generated_without_a_warning(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    tools = tmp_path / "venv" / "bin"
    given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = given | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}  # it calls ruff by its name
    pip = [tools / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", GENERATOR]
    subprocess.run(pip, env=environment, check=True)
    config = ["--config", DOCS / "openapi-python-client.yml", "--output-path", tmp_path / "made"]
    command = [tools / "openapi-python-client", "generate", "--path", DOCS / "openapi.json", *config]
    done = subprocess.run([*command, "--fail-on-warning"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "arning" not in done.stdout + done.stderr
    assert {"job.py", "job_page.py", "plan.py"} <= {path.name for path in tmp_path.rglob("models/*.py")}
