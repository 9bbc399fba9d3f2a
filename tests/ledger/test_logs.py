"""One line an event, of one form whoever writes it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import httpx
import huggingface_hub
import pytest
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core.ledger import logs
from core.ledger.database import Database
from core.ledger.settings import Settings


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    """As it was before."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_lines_are_json_with_what_is_bound(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")  # no terminal looks on
    logs.configure("info")  # each line is written once all the same
    log = logging.getLogger("some.library")
    with logs.bound(job="job_1", attempt=2):
        log.warning("it took %d s", 3, extra={"stage": "teach"})
        log.debug("too much")
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        log.exception("failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first.pop("timestamp").endswith("Z")
    facts = {"event": "it took 3 s", "level": "warning", "logger": "some.library", "stage": "teach"}
    assert first == {**facts, "job": "job_1", "attempt": 2}
    assert "job" not in second and "RuntimeError: broken" in second["exception"]


def test_clients_of_http_tell_no_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug")
    for client in (httpx.Client, type(huggingface_hub.get_session())):
        logging.getLogger(client.__module__.partition(".")[0]).info(
            "HTTP Request: GET https://example.org/?signature=1"
        )
    assert capsys.readouterr().err == ""


def test_text_and_level_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug:text")
    hidden = "a local variable"
    try:
        raise RuntimeError(len(hidden))
    except RuntimeError:
        logging.getLogger("l").debug("plain words", exc_info=True)
    said = capsys.readouterr().err
    assert "plain words" in said and "RuntimeError: 16" in said and '{"' not in said and hidden not in said
    for wrong in ("loud", "info:xml", "info:"):
        with pytest.raises(ValidationError, match="log"):
            Settings(log=wrong)


def test_what_a_statement_was_given_is_in_no_error(database: Database) -> None:
    with pytest.raises(DBAPIError) as found, database.begin() as session:
        session.execute(text("SELECT * FROM nowhere WHERE a = :a"), {"a": "a user's words"})
    assert "a user's words" not in str(found.value)
