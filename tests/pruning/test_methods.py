"""A method is one file: described without torch, run by its name, and nothing else to be changed for a new one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import core
from core.domains.cost import Cost
from core.domains.transformer.network import TransformerNetwork
from core.pruning.methods.random import at_random
from core.pruning.scoring.fitter import Fitter
from core.spec.methods import METHODS, facts_of

LATE = '''"""`late`: the last units go."""
import numpy as np

from core.domains.fit import Scores
from core.pruning.methods import Scored

FACTS = {
    "what": "drops the last units of each layer",
    "needs": "nothing",
    "cost": "none",
    "use": "never",
    "source": "this test",
    "reads_rows": False,
}


def late(network, fitter, *rows, **options):
    return Scores(np.concatenate([-np.arange(block.size) for block in fitter.cost.anatomy.blocks]))


prune = Scored(late)
'''
AT_THE_DOOR = """
import sys
from core.spec.job import JobSpec
from core.spec.methods import METHODS
assert METHODS["late"].use == "never" and not METHODS["late"].trains
data = {"dataset": "ds_" + 32 * "0"}
job = {"model": "m", "task": {"data": data}, "budget": {"params": 0.5}, "method": {"name": "late"}}
assert JobSpec.model_validate(job).method.name == "late"
assert "torch" not in sys.modules
"""
AT_WORK = """
import sys
from pathlib import Path
from core.pruning.scoring.fitter import Fitter
from core.pruning.methods import pruning
from core.domains.transformer.load import load_network
from core.pruning.training.train import Training
from tests.pruning.conftest import costs_of
from tests.tiny import save_tiny_model
network = load_network(save_tiny_model(Path(sys.argv[1])), ["neg", "pos"], seed=0)
cost = costs_of(network).params
structure, _ = pruning("late")(network, Fitter(cost, cost.dense // 2), [], None, Training(0, 0.1, 0))
assert cost.of(structure) <= cost.dense // 2 and not structure.neurons[0] == tuple(range(128))
assert all(row == tuple(range(len(row))) for row in structure.kept)
"""


def test_every_file_is_a_method_as_it_says() -> None:
    assert {"fisher", "l0", "pdp", "magnitude", "random"} <= METHODS.keys()
    for name, facts in METHODS.items():
        file = import_module(f"core.pruning.methods.{name}")
        assert callable(file.prune) and hasattr(file, "zero") == facts.sparsity


def test_one_file_makes_a_method(tmp_path: Path) -> None:
    folder = tmp_path / "core"
    shutil.copytree(Path(core.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pruning/methods/late.py").write_text(LATE)
    for program in (AT_THE_DOOR, AT_WORK):
        code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(Path.cwd())!r}]\n{program}"
        command = [sys.executable, "-c", code, str(tmp_path / "model")]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr


def test_methods_that_are_not_where_they_are_looked_for_are_missed_at_once(tmp_path: Path) -> None:
    shutil.copytree(Path(core.__file__).parent, tmp_path / "core", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "core/pruning/methods").rename(tmp_path / "core/pruning/ways")
    command = [sys.executable, "-P", "-c", "import core.spec.methods"]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(tmp_path)}
    )
    assert ran.returncode == 1 and "core/pruning/methods holds no pruning method" in ran.stderr


@pytest.mark.parametrize("text", ["", "FACTS = {'what': 'and no more'}", "FACTS = dict(what='x')"])
def test_a_file_that_does_not_describe_itself_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises((TypeError, ValueError)):
        facts_of(tmp_path / "bad.py")


def test_random_follows_the_seed(network: TransformerNetwork, cost: Cost) -> None:
    fitter = Fitter(cost, cost.dense // 3)
    first, same, other = (fitter(at_random(network, fitter, [], seed)) for seed in (0, 0, 1))
    assert first == same != other
