"""Who looks: the cookie of a login, and the token that every change of a form carries.

The token is made of a cookie that no other site can read or send: of the login, or, where nobody is logged in, of a
random one that means nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from urllib.parse import quote

from fastapi import Request, Response
from starlette.datastructures import FormData, Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from api.http.problems import Problem
from core.ledger.logins import HOURS

LOGIN, VISIT = "topwork_login", "topwork_visit"
FIELD = "token"  # of each form
# What the page needs of the API, beside its own addresses: it changes nothing.
SHOWN = re.compile(r"/v1/jobs/[^/]+/(events|archive|files/.+)")


def takes_cookie(scope: Scope) -> bool:
    """Whether a login is good for this request: for pages, and for what they show and offer of the API."""
    path, safe = scope["path"], scope["method"] in ("GET", "HEAD")
    return is_page(path) or (safe and SHOWN.fullmatch(path) is not None)


def is_page(path: str) -> bool:
    """Whether an address is for people."""
    return not path.startswith("/v1") and path != "/metrics"


def login_of(scope: Scope) -> str | None:
    """What the cookie of a login holds."""
    return HTTPConnection(scope).cookies.get(LOGIN)


def wants_page(headers: Headers) -> bool:
    """Whether a browser asks, to show the answer to somebody."""
    return "text/html" in headers.get("accept", "")


def to_login(scope: Scope) -> Response:
    """Ask for a key, and come back afterwards."""
    query = scope["query_string"].decode("latin-1")
    back = scope["path"] + (f"?{query}" if query else "") if scope["method"] == "GET" else "/"
    there = "/login" if back == "/" else f"/login?next={quote(back, safe='')}"
    return Response(status_code=303, headers={"Location": there, "Cache-Control": "no-store"})


def inside(address: str) -> str:
    """The address, if it leads to one of our pages; else that of the jobs."""
    return address if re.fullmatch(r"/(?![/\\])[\x21-\x7e]*", address) and "\\" not in address else "/"


def begin(request: Request, response: Response, token: str) -> None:
    """Give the browser the cookie of a login."""
    _keep(request, response, LOGIN, token, 3600 * HOURS)


def end(response: Response) -> None:
    """Take the cookie back."""
    response.delete_cookie(LOGIN, path="/", httponly=True, samesite="strict")


def form_token(request: Request) -> str:
    """What the forms of a page carry, if it goes to the browser that asks for it."""
    return _of(request.cookies.get(LOGIN) or request.state.visit)


def greet(request: Request) -> None:
    """Find out which browser it is, by a cookie that means nothing else."""
    request.state.visit = request.cookies.get(VISIT) or secrets.token_urlsafe(16)


def remember(request: Request, response: Response) -> None:
    """Let the browser come back as the same."""
    if VISIT not in request.cookies and LOGIN not in request.cookies:
        _keep(request, response, VISIT, request.state.visit, None)


def require_token(request: Request, form: FormData) -> None:
    """Raises a 403 Problem for a form that another site made a browser send."""
    given, foreign = form.get(FIELD), request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    expected = form_token(request)
    if foreign or not isinstance(given, str) or not hmac.compare_digest(given.encode(), expected.encode()):
        raise Problem(403, "This form is of another visit, or of another site: load the page again, and send it anew.")


def _of(cookie: str) -> str:
    return hmac.digest(cookie.encode("utf-8", "surrogateescape"), b"topwork form", hashlib.sha256).hex()


def _keep(request: Request, response: Response, name: str, value: str, seconds: int | None) -> None:
    secure = request.url.scheme == "https"
    response.set_cookie(name, value, seconds, path="/", secure=secure, httponly=True, samesite="strict")
