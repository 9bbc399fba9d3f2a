"""`python -m cli` is `topwork`."""

from cli.main import app

app()
