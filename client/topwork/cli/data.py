"""Commands of data sets."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from topwork.cli.common import THERE, JsonOption, ServerOption, dump, out, plain, prose, say, session
from topwork.cli.words import short, understood
from topwork.client import SERVER

DataArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the file, or id of the data set.")]

app = typer.Typer(help="Data sets: list them, look at one, upload, delete.", invoke_without_command=True)


def add(to: typer.Typer) -> None:
    """Its commands."""
    to.add_typer(app, name="data", rich_help_panel=THERE)


@app.callback()
def listed(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
    json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """Data sets: list them, look at one, upload, delete."""
    if context.invoked_subcommand is not None:
        return
    with session(server) as client:
        found = list(islice(client.data.list(), limit))
        if json:
            return dump(found)
        if not found:
            return say("There are no data sets yet: topwork data upload FILE.csv")
        table = Table("name", "rows", "columns", "id", box=None, pad_edge=False)
        for one in found:
            table.add_row(*plain(one.name, f"{one.rows:,}", short(", ".join(one.columns), 30), one.id[-8:]))
        out.print(table)


@app.command()
def show(name: DataArgument, json: JsonOption = False, server: ServerOption = SERVER) -> None:
    """What was understood of a file."""
    with session(server) as client:
        found = client.data.get(name)
        if json:
            return dump(found)
        for line in understood(found):
            prose(line)
        say(found.id)


@app.command()
def upload(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A table: CSV, JSON, Parquet, ...")],
    delimiter: Annotated[str | None, typer.Option(help="Between cells; found out without.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of the text; found out without.")] = None,
    header: Annotated[bool | None, typer.Option(help="Whether the first line names the columns.")] = None,
    json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """Upload a file (one that is there already is used again), and say what was understood."""
    with session(server) as client:
        found = client.data.upload(file, delimiter=delimiter, encoding=encoding, header=header)
        if json:
            return dump(found)
        for line in understood(found):
            prose(line)
        say(found.id)


@app.command()
def delete(name: DataArgument, json: JsonOption = False, server: ServerOption = SERVER) -> None:
    """Forget a data set. Jobs that have ended keep what they made of it."""
    with session(server) as client:
        found = client.data.get(name)
        client.data.delete(found.id)
        return dump({"deleted": found.id}) if json else say(f"{found.id} ({found.name}) is deleted")
