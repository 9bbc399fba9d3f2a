"""A server that is none."""

from __future__ import annotations

import httpx
import pytest

from tests.client.stub import Stub
from topwork import Client
from topwork.cli import common


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The server that every command of this test talks to."""
    stub = Stub(httpx.Response(500))

    def connect(_server: str) -> Client:
        return Client("http://stub", transport=httpx.MockTransport(stub._answer), pause=stub.pauses.append)

    monkeypatch.setattr(common, "connect", connect)
    return stub
