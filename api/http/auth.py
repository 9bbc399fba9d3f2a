"""Who asks. No request reaches a route, or has its body read, before its key is known to be good.

Without keys (`topwork serve` on a loopback address), whoever reaches this machine's loopback is let in; requests from
elsewhere, or for another host name (a page in a browser that had its name resolve to here), are not; nor are those that
a page of another site makes a browser send, or that a proxy passes on.

In a browser, the cookie of a login stands for a key at the addresses of the page (`api/page`), and for what these show.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.coalesce import Coalescer
from api.http import session
from api.http.problems import Problem, database_away, response
from core.ledger import keys, logins
from core.ledger.database import Database
from core.ledger.tables import DEFAULT_TENANT

OPEN = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
DOOR = ("/login", "/logout", "/static/", "/docs/")
CALLER = "topwork.caller"  # in the scope
PROXY = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")  # what a proxy adds
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="topwork"'}


@dataclass(frozen=True)
class Caller:
    """Whose request it is, and what the key allows."""

    tenant_id: str
    scopes: frozenset[str]
    key_id: str | None = None
    by_itself: bool = False  # a browser sends what lets it in, whoever made it ask


NOBODY = Caller("", frozenset())
LOCAL = Caller(DEFAULT_TENANT, frozenset(keys.SCOPES), by_itself=True)


class Authentication:
    """ASGI middleware: everything but the open addresses needs a caller with the scope that the method asks for."""

    def __init__(self, app: ASGIApp, database: Database, require_keys: bool) -> None:
        self.app, self.require_keys = app, require_keys
        self.keys = Coalescer(partial(keys.find, database))
        self.logins = Coalescer(partial(logins.find, database))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN or scope["path"].startswith(DOOR):
            return await self.app(scope, receive, send)
        try:
            caller = await self._by_key(scope) if self.require_keys else _local(scope)
            needed = "read" if scope["method"] in ("GET", "HEAD", "OPTIONS") else "write"
            if needed not in caller.scopes:
                raise lacking(needed)
        except Problem as problem:
            away = problem.status_code == 401 and session.is_page(scope["path"])
            to_login = away and session.wants_page(Headers(scope=scope))
            return await (session.to_login(scope) if to_login else response(problem))(scope, receive, send)
        except (DBAPIError, PoolTimeoutError) as error:
            return await response(database_away(error))(scope, receive, send)
        scope[CALLER] = caller
        await self.app(scope, receive, send)

    async def _by_key(self, scope: Scope) -> Caller:
        given = Headers(scope=scope).get("authorization")
        token = session.login_of(scope) if given is None and session.takes_cookie(scope) else None
        if token and (login := await self.logins.get(token)) is not None:
            return Caller(login.tenant_id, frozenset(login.scopes), login.id, by_itself=True)
        scheme, _, secret = (given or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise Problem(401, "This needs a key: send the header 'Authorization: Bearer KEY'.", headers=CHALLENGE)
        key = await self.keys.get(secret.strip())
        if key is None:
            raise Problem(
                401, "The key is unknown, expired or revoked; ask your admin for a new one.", headers=CHALLENGE
            )
        return Caller(key.tenant_id, frozenset(key.scopes), key.id)


def lacking(scope: str) -> Problem:
    """403: the key is good, but not for this."""
    return Problem(403, f"The key lacks the scope '{scope}'; ask your admin for one that has it.")


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address means this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _local(scope: Scope) -> Caller:
    address = str((scope.get("server") or ("",))[0])
    elsewhere = address.replace(".", "").isdigit() or ":" in address  # an IP address: of the socket that was reached
    headers = Headers(scope=scope)
    names = [_host("//" + headers.get("host", "")), *map(_host, headers.getlist("origin"))]
    foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site") or any(name in headers for name in PROXY)
    if (elsewhere and not is_loopback(address)) or foreign or not all(map(is_loopback, names)):
        raise Problem(
            403,
            "Without keys, only this machine itself is served, as localhost: no page of another site, and nobody "
            "behind a proxy. Make a key with `topwork keys create`, and start the server with "
            "TOPWORK_REQUIRE_KEYS=true.",
        )
    return LOCAL


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
