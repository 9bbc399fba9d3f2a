"""The command `models`."""

from __future__ import annotations

import typer
from rich.table import Table

from topwork.cli.common import THERE, JsonOption, ServerOption, dump, out, plain, prose, say, session
from topwork.client import SERVER


def add(app: typer.Typer) -> None:
    """Its commands."""
    app.command(rich_help_panel=THERE)(models)


def models(json: JsonOption = False, server: ServerOption = SERVER) -> None:
    """Models that can be pruned, and why others in the models folder cannot."""
    with session(server) as client:
        found = client.models.listing()
        if json:
            return dump(found)
        if not found.items:
            say("There are no models yet: put one into the server's folder models/, or name one of a hub.")
        table = Table("name", "reads", "architecture", "params", "labels", box=None, pad_edge=False)
        for one in found.items:
            labels = str(len(one.labels)) if one.labels else ""
            table.add_row(*plain(one.name, one.task, one.architecture, f"{one.model_params:,}", labels))
        if found.items:
            out.print(table)
        for other in found.unusable:
            prose(f"{other.name} cannot be pruned: {other.reason}")
