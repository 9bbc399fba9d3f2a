"""What commands share: options, the connection, how errors are told, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any, NoReturn

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.text import Text

from topwork.client import SERVER, SERVER_VARIABLE, Client
from topwork.errors import JobFailed, ServerAway, TopworkError

# Exit codes, beside 0: docs/cli.md.
REFUSED, USAGE, FAILED, AWAY, STOPPED = 1, 2, 3, 4, 130

# Of the commands, in `topwork --help`.
A_JOB, THERE, OWN = "A job, from a file to a checkpoint", "What is there", "A server on this machine"


class Output(Console):
    """The standard output; who reads no further (`| head`) has what they wanted."""

    def on_broken_pipe(self) -> None:
        """End the command, which has gone well."""
        with suppress(SystemExit):
            super().on_broken_pipe()
        raise SystemExit(0)


out, err = Output(highlight=False, emoji=False), Console(stderr=True, highlight=False, emoji=False)

ServerOption = Annotated[str, typer.Option("--server", envvar=SERVER_VARIABLE, help="Address of the server.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The answer as JSON, for programs.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job, its beginning or end, or its title.")]


def connect(server: str = SERVER) -> Client:
    """A client of the server."""
    return Client(server)


@contextmanager
def session(server: str) -> Iterator[Client]:
    """A client; what goes wrong is said in lines, and ends the command with its code."""
    try:
        with connect(server) as client:
            yield client
    except JobFailed as error:
        fail(str(error), FAILED)
    except ServerAway as error:
        fail(str(error), AWAY)
    except TopworkError as error:
        fail(str(error))
    except OSError as error:
        fail(file_error(error))


@contextmanager
def usage() -> Iterator[None]:
    """What is wrong here is the command line's fault."""
    try:
        yield
    except TopworkError as error:
        if type(error) is not TopworkError:
            raise
        fail(str(error), USAGE)


def fail(reason: str, code: int = REFUSED) -> NoReturn:
    """Say why, and end."""
    err.print(reason, markup=False, soft_wrap=True, style="red")
    raise typer.Exit(code)


def require_answers() -> None:
    """End the command where nobody can answer a question: the standard input is closed."""
    if sys.stdin is None:
        fail("there is nobody to ask here: give --yes", USAGE)


def file_error(error: OSError) -> str:
    """In a line."""
    return f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)


def plain(*cells: str) -> list[Text]:
    """Cells of a table as they are: rich would take [words] of theirs for styles."""
    return [Text(cell) for cell in cells]


def say(text: str) -> None:
    """A line of any width, as it is."""
    out.print(text, markup=False, soft_wrap=True)


def prose(text: str) -> None:
    """Text for people, folded at the width of the terminal."""
    out.print(text, markup=False)


def dump(value: Any) -> None:
    """As JSON: a model, or a list of them."""
    plain = [one.model_dump(mode="json") for one in value] if isinstance(value, list) else value
    plain = plain.model_dump(mode="json") if isinstance(plain, BaseModel) else plain
    try:
        print(json.dumps(plain, indent=2, ensure_ascii=False), flush=True)
    except BrokenPipeError:
        out.on_broken_pipe()
