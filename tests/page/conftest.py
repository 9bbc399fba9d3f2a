"""The page on a ledger with a job of every kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from core.ledger.database import Database
from core.ledger.settings import Settings
from tests.api.conftest import client, live, settings  # noqa: F401  fixtures
from tests.page.chromium import chromium, driver, server  # noqa: F401  fixtures
from tests.page.house import House, fill

PAGE = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def browser(client: TestClient) -> TestClient:  # noqa: F811
    """A client that asks as a browser does."""
    client.headers.update(PAGE)
    return client


@pytest.fixture
def house(browser: TestClient, settings: Settings, database: Database) -> House:  # noqa: F811
    """To fill."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return House(settings, database)


@pytest.fixture
def ids(house: House) -> dict[str, str]:
    """One of everything: name -> id."""
    return fill(house)


def token(page: str) -> str:
    """What the forms of a page carry."""
    found = re.search(r'name="token" value="([0-9a-f]{64})"', page)
    assert found is not None, page[:500]
    return found[1]


Send = Callable[..., Any]


@pytest.fixture
def send(browser: TestClient) -> Iterator[Send]:
    """Send a form, with the token of the page that it is on."""

    def form(address: str, page: str, data: dict[str, Any] | None = None, **options: Any) -> Any:
        given = {"token": token(browser.get(page).text)} | (data or {})
        return browser.post(address, data=given, follow_redirects=False, **options)

    yield form
