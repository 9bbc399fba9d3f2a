"""`python -m api`: the API on an address, as `topwork serve` starts it and a fleet does."""

from __future__ import annotations

import argparse
import gc

import uvicorn
from fastapi import FastAPI

from api.http.connections import Bounded, backlog, raise_file_limit
from api.main import create_app
from core.ledger.files.private import keep_private
from core.ledger.settings import read_settings

GRACE_S = 3  # for answers that are being sent, at the end


def app() -> FastAPI:
    """The application, and what it was made of out of the garbage collector's sight: a sweep of it takes 0.1 s."""
    made = create_app()
    gc.collect()
    gc.freeze()
    return made


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m api", description="The HTTP API of Topwork.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    given = parser.parse_args()
    raise_file_limit()
    keep_private(read_settings().data_dir)
    uvicorn.run(
        "api.__main__:app",
        factory=True,
        host=given.host,
        port=given.port,
        workers=given.workers,
        http=Bounded,
        ws="none",
        backlog=backlog(),
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=GRACE_S,
    )


if __name__ == "__main__":
    main()
