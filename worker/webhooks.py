"""Sends a message to a webhook as Standard Webhooks asks (standardwebhooks.com): signed, under an id that stays.

The name is resolved once, and the address that was checked is the one that is connected to; redirects are not followed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import time

import httpx

from core.ledger.webhooks import SECRET_PREFIX, Letter, is_public

CALL_S = 30.0  # of a whole call, less than `HOLD_S`
TIMEOUT = httpx.Timeout(10.0, connect=5.0)  # of each read, which alone would bound nothing


class RefusedError(Exception):
    """The message was not accepted, but answered with `status`; `for_good` if there is no use in sending it again."""

    def __init__(self, reason: str, status: int | None = None, for_good: bool = False) -> None:
        super().__init__(reason)
        self.status, self.for_good = status, for_good


def post(letter: Letter, allow_private: bool) -> int:
    """Send it; returns the status of the answer, a success.

    Raises RefusedError, or httpx.HTTPError or OSError where nobody answers.
    """
    try:
        url = httpx.URL(letter.url)
        host = url.raw_host.decode()
        address = resolve(host, url.port or (443 if url.scheme == "https" else 80), allow_private)
    except (httpx.InvalidURL, UnicodeError):
        raise RefusedError("its URL cannot be called", for_good=True) from None
    body, sent_at = json.dumps(letter.body, separators=(",", ":")).encode(), int(time.time())
    headers = {
        "Host": url.netloc.decode(),
        "Content-Type": "application/json",
        "User-Agent": "Topwork",
        "webhook-id": letter.id,
        "webhook-timestamp": str(sent_at),
        "webhook-signature": sign(letter.secret, letter.id, sent_at, body),
    }
    request = httpx.Request(
        "POST", url.copy_with(host=address), content=body, headers=headers, extensions={"sni_hostname": host}
    )
    try:
        answer = asyncio.run(asyncio.wait_for(_send(request), CALL_S))
    except TimeoutError:
        raise RefusedError(f"it took longer than {CALL_S:g} s") from None
    if not answer.is_success:
        raise RefusedError(f"it answered {answer.status_code}", answer.status_code, answer.status_code == 410)
    return answer.status_code


async def _send(request: httpx.Request) -> httpx.Response:
    """The head of the answer; what it says in its body is not read."""
    async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as http:
        answer = await http.send(request, stream=True)
        await answer.aclose()
        return answer


def sign(secret: str, message_id: str, sent_at: int, body: bytes) -> str:
    """The header `webhook-signature`."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    digest = hmac.digest(key, f"{message_id}.{sent_at}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


def resolve(host: str, port: int, allow_private: bool) -> str:
    """The address of a host, IPv4 first; raises RefusedError if any of its addresses is not public."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in sorted(found, key=lambda entry: entry[0] != socket.AF_INET)]
    if not allow_private and not all(map(is_public, addresses)):
        raise RefusedError("its host is not on the public internet")
    return addresses[0]
