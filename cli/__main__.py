"""`python -m cli` is `topwork`."""

from topwork.cli.main import run

run()
