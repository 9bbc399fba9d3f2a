"""Run the benchmark of methods, or what is left of it: `python -m benchmarks.methods --help`."""

from __future__ import annotations

import sys

from benchmarks.methods.picture import pareto
from benchmarks.methods.table import markdown
from benchmarks.transfer.__main__ import Bench, main
from benchmarks.transfer.cells import METHOD_ARMS, METHOD_ORDER

METHODS = Bench("methods", METHOD_ARMS, METHOD_ORDER, markdown, pareto)

if __name__ == "__main__":
    sys.exit(main(bench=METHODS))
