"""Log lines of every process, on stderr: one JSON object each where nobody looks on, text on a terminal.

What is bound (`structlog.contextvars`: the job, its attempt, the worker, the request) is in each line of that thread.
Nothing here is to hold a secret or what a user wrote: routes not addresses, ids not names.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TextIO

import structlog

bound = structlog.contextvars.bound_contextvars  # with bound(job=...):


# They log addresses and headers; the second two are the hub's client.
TALKATIVE = "alembic.runtime.migration"  # two lines whenever the schema is looked at
TELLTALE = ("httpx", "httpcore", "httpx2", "httpcore2", "urllib3", "botocore", "boto3", "s3transfer")


class _ToStderr(logging.StreamHandler[TextIO]):
    """To whatever is stderr when a line is written."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def _once(_logger: Any, _name: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Without what other formatters leave in a record: the same text again."""
    return {name: value for name, value in event.items() if name not in ("message", "color_message")}


def configure(how: str) -> None:
    """Set up the root logger; `how` as in `Settings.log`. To call it again changes it."""
    level, _, form = how.partition(":")
    as_json = form == "json" or (not form and not sys.stderr.isatty())
    facts: list[Callable[..., Any]] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _once,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        last: list[Callable[..., Any]] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback  # another kind would show the values of variables
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    handler = _ToStderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=facts, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    root = logging.getLogger()
    for other in [one for one in root.handlers if isinstance(one, _ToStderr)]:
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in (*TELLTALE, TALKATIVE):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)  # its warning of a retry names the address


def hush(library: str) -> None:
    """Only errors of a library that warns with addresses, and only through our handler; once it is imported."""
    logger = logging.getLogger(library)
    logger.handlers.clear()
    logger.setLevel(logging.ERROR)
