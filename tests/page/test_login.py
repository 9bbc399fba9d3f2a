"""Logins: a key is given once; the cookie opens pages alone, changes nothing without the form's token, and ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from api.main import create_app
from core.ledger import keys
from core.ledger.database import Database
from core.ledger.settings import Settings
from core.ledger.tables import Key, Login
from tests.api.conftest import MODEL, one_database, write_model
from tests.page.conftest import PAGE, token
from tests.page.house import House, fill

Made = tuple[Key, str]


@pytest.fixture
def app(settings: Settings) -> Any:
    write_model(settings.models_dir / MODEL)
    return create_app(settings.model_copy(update={"require_keys": True}))


@pytest.fixture
def browser(app: Any) -> Iterator[TestClient]:
    """One that nobody is logged in with."""
    with TestClient(app, "http://localhost", headers=PAGE, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def ids(browser: TestClient, settings: Settings, database: Database) -> dict[str, str]:
    """One of everything, of the default tenant: name -> id."""
    return fill(House(settings, database))


def make_key(database: Database, *scopes: str, tenant: str = "default") -> Made:
    with database.begin() as session:
        return keys.create(session, keys.tenant(session, tenant), "mine", scopes)


def log_in(browser: TestClient, secret: str, back: str = "/") -> Any:
    form = {"key": secret, "next": back, "token": token(browser.get("/login").text)}
    return browser.post("/login", data=form, follow_redirects=False)


def test_a_login_lasts_until_it_is_ended(browser: TestClient, ids: dict[str, str], database: Database) -> None:
    asked = browser.get(f"/jobs/{ids['done']}?x=1", follow_redirects=False)
    assert (asked.status_code, asked.headers["location"]) == (303, f"/login?next=%2Fjobs%2F{ids['done']}%3Fx%3D1")
    key, secret = make_key(database, *keys.SCOPES)
    answer = log_in(browser, secret, f"/jobs/{ids['done']}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{ids['done']}")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Secure" not in cookie
    assert secret not in cookie and key.sha256 not in cookie
    page = browser.get(f"/jobs/{ids['done']}")
    assert page.status_code == 200 and "Log out" in page.text and "Reviews to a third" in page.text
    kept = dict(browser.cookies)
    out = browser.post("/logout", data={"token": token(page.text)}, follow_redirects=False)
    assert out.status_code == 303 and "topwork_login" not in dict(browser.cookies)
    browser.cookies.update(kept)  # who kept it has nothing any more
    assert browser.get("/", follow_redirects=False).headers["location"] == "/login"


def test_what_is_kept_of_a_login_opens_nothing(browser: TestClient, database: Database) -> None:
    log_in(browser, make_key(database, "read")[1])
    with database.read() as session:
        [login] = session.query(Login)
        kept = login.sha256
    browser.cookies.clear()
    browser.cookies.set("topwork_login", kept)
    assert browser.get("/", follow_redirects=False).status_code == 303


def test_a_revoked_key_ends_its_logins(browser: TestClient, database: Database) -> None:
    key, secret = make_key(database, "read", "write")
    log_in(browser, secret)
    assert browser.get("/").status_code == 200
    with database.begin() as session:
        keys.revoke(session, key.tenant_id, key.id)
    assert browser.get("/", follow_redirects=False).status_code == 303
    log_in(browser, (again := make_key(database, "read"))[1])
    with database.begin() as session:
        session.execute(update(Key).where(Key.id == again[0].id).values(expires_at=1))
    assert browser.get("/", follow_redirects=False).status_code == 303


def test_a_login_expires(browser: TestClient, database: Database) -> None:
    log_in(browser, make_key(database, "read")[1])
    with database.begin() as session:
        session.execute(update(Login).values(expires_at=1))
    assert browser.get("/", follow_redirects=False).status_code == 303
    browser.cookies.clear()
    log_in(browser, make_key(database, "read")[1])
    with database.read() as session:
        assert session.query(Login).count() == 1  # the other is forgotten


@one_database
def test_a_wrong_key_is_refused(browser: TestClient, database: Database) -> None:
    for secret, status, said in (("topwork_guess", 401, "unknown, expired or revoked"), ("", 401, "unknown"),
                                 (make_key(database, "admin")[1], 403, "lacks the scope")):  # fmt: skip
        answer = log_in(browser, secret)
        assert answer.status_code == status and said in answer.text and "topwork_login" not in dict(browser.cookies)


@one_database
def test_a_login_leads_to_our_own_pages_alone(browser: TestClient, database: Database) -> None:
    secret = make_key(database, "read")[1]
    for there in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\r\nX: y", ""):
        assert log_in(browser, secret, there).headers["location"] == "/", there
        browser.cookies.clear()


@one_database
def test_over_https_the_cookie_is_secure(app: Any, database: Database) -> None:
    with TestClient(app, "https://topwork.example", headers=PAGE) as browser:
        assert "Secure" in log_in(browser, make_key(database, "read")[1]).headers["set-cookie"]


def test_the_cookie_opens_pages_and_what_they_show_alone(
    browser: TestClient, ids: dict[str, str], database: Database
) -> None:
    log_in(browser, make_key(database, *keys.SCOPES)[1])
    job = f"/v1/jobs/{ids['done']}"
    for path in (f"{job}/events", f"{job}/archive", f"{job}/files/report.json"):
        assert browser.get(path).status_code == 200, path
    for path in ("/v1/jobs", job, f"{job}/files", f"{job}/report", "/v1/keys", "/v1/datasets", "/metrics"):
        assert browser.get(path, follow_redirects=False).status_code == 401, path
    for path in (f"{job}/cancel", f"{job}/retry", "/v1/jobs", "/v1/keys", f"{job}/events"):
        assert browser.post(path, json={}).status_code == 401, path
    assert browser.delete(job).status_code == 401
    assert browser.get(job, headers={"Authorization": "Bearer wrong"}).status_code == 401


@one_database
def test_nothing_is_changed_without_the_token_of_the_page(
    browser: TestClient, ids: dict[str, str], database: Database
) -> None:
    log_in(browser, make_key(database, *keys.SCOPES)[1])
    page = f"/jobs/{ids['running']}"
    good = token(browser.get(page).text)
    other = TestClient(browser.app, "http://localhost", headers=PAGE)
    stolen = token(other.get("/login").text)
    for given in ({}, {"token": ""}, {"token": "0" * 64}, {"token": stolen}, {"token": "ä"}):
        answer = browser.post(f"{page}/cancel", data=given, follow_redirects=False)
        assert answer.status_code == 403 and "load the page again" in answer.text, given
    assert browser.post(f"{page}/cancel", json={"token": good}, follow_redirects=False).status_code == 403
    for site in ("cross-site", "same-site"):
        foreign = {"Sec-Fetch-Site": site}
        assert browser.post(f"{page}/cancel", data={"token": good}, headers=foreign).status_code == 403
    assert browser.post("/login", data={"key": "x"}).status_code == browser.post("/logout").status_code == 403
    with database.read() as session:
        assert session.query(Login).count() == 1
    assert browser.post(f"{page}/cancel", data={"token": good}, follow_redirects=False).status_code == 303


@one_database
def test_a_key_that_reads_sees_no_buttons_and_changes_nothing(
    browser: TestClient, ids: dict[str, str], database: Database
) -> None:
    log_in(browser, make_key(database, "read")[1])
    page = browser.get(f"/jobs/{ids['running']}")
    assert "Cancel" not in page.text and ">Keys<" not in page.text
    answer = browser.post(f"/jobs/{ids['running']}/cancel", data={"token": token(page.text)})
    assert answer.status_code == 403 and "lacks the scope" in answer.text
    assert browser.get("/keys").status_code == 403
    assert browser.post("/logout", data={"token": token(page.text)}, follow_redirects=False).status_code == 303


@one_database
def test_another_tenant_sees_nothing(browser: TestClient, ids: dict[str, str], database: Database) -> None:
    log_in(browser, make_key(database, *keys.SCOPES, tenant="stranger")[1])
    for page in ("/", "/?q=reviews", "/data", "/new", "/workers", "/keys", "/?sort=quality"):
        text = browser.get(page).text
        assert not [one for one in ids.values() if one in text], page
        assert "product reviews" not in text and "Reviews to a third" not in text, page
    for name in ("done", "running"):
        for part in ("", "/live", "/actions", "/report.html", "/delete"):
            assert browser.get(f"/jobs/{ids[name]}{part}").status_code == 404
    assert browser.get(f"/data/{ids['data']}").status_code == 404
    assert browser.get(f"/compare?job={ids['done']}&job={ids['other']}").status_code == 404
    assert browser.get(f"/new?data={ids['data']}&like={ids['done']}").status_code == 404
    assert browser.get(f"/v1/jobs/{ids['running']}/events").status_code == 404
    assert "product reviews" not in browser.get(f"/new?data={ids['data']}").text


@one_database
@pytest.mark.parametrize("charset", ["punycode", "idna", "undefined", '"UTF-16"'])
def test_a_form_is_read_as_utf8_alone(charset: str, browser: TestClient, database: Database) -> None:
    key = {"Authorization": f"Bearer {make_key(database, *keys.SCOPES)[1]}"}
    body = b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\n' + b"a" * 10_000 + b"\r\n--x--\r\n"
    for path in ("/login", "/v1/datasets"):
        kind = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
        answer = browser.post(path, content=body, headers=kind | key)
        assert answer.status_code == 415 and "read as UTF-8" in answer.text, path
    kind = {"Content-Type": "multipart/form-data; boundary=x; charset=UTF-8"}
    assert browser.post("/login", content=body, headers=kind).status_code == 403  # without its token


@pytest.mark.parametrize("path", ["/login", "/logout"])
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
def test_nobody_without_a_key_sends_much(path: str, kind: str, browser: TestClient) -> None:
    answer = browser.post(path, content=bytes(2**15), headers={"Content-Type": kind})
    assert answer.status_code == 413
