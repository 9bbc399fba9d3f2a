"""`topwork`: commands for any server, and those that an installed server brings."""

from __future__ import annotations

from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from topwork.cli import data, job, jobs, models, new
from topwork.cli.common import USAGE, err, fail

GROUP = "topwork.commands"  # entry points: each is called with the app, and adds commands
OF_SERVERS = ("serve", "demo", "fetch-demo", "keys", "migrate")  # which come with it

HELP = "Prune pre-trained models to an exact budget: commands for any Topwork server, and for one of your own."

app = typer.Typer(no_args_is_help=True, add_completion=False, help=HELP, pretty_exceptions_enable=False)


def _version(asked: bool) -> None:
    if asked:
        print(f"topwork {version('topwork')}")
        raise typer.Exit


@app.callback()
def _top(
    _asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


for _part in (new, job, jobs, data, models):
    _part.add(app)


def add_server(app: typer.Typer) -> None:
    """Commands of a server that is installed here; without one, a sentence in their place."""
    before = len(app.registered_commands) + len(app.registered_groups)
    for point in entry_points(group=GROUP):
        try:
            point.load()(app)
        except ImportError as error:
            err.print(f"the commands of {point.name} cannot be loaded: {error}", markup=False, style="red")
    if len(app.registered_commands) + len(app.registered_groups) == before:
        for name in OF_SERVERS:
            app.command(name, hidden=True, context_settings=ANY)(_absent)


ANY = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def _absent(context: typer.Context) -> None:
    """Of a server, which is not installed here."""
    name = context.info_name
    fail(
        f"'topwork {name}' is a command of the server, which is not installed here: run it in a checkout of Topwork "
        "(`make serve`), or in its image; this is the client alone.",
        USAGE,
    )


add_server(app)


def run() -> None:
    """The command."""
    app()
