"""What the worker's processes load."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["worker.app", "worker.relay", "worker.supervise", "worker.child"])
def test_importing_the_worker_does_not_load_torch(module: str) -> None:
    program = f"import sys, {module}; print(sorted({{'torch', 'transformers', 'sklearn'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)
