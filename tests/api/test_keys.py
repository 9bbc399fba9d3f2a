"""Keys, scopes and tenants. The matrices come from the application's own routes: a new route is tested by itself."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from api.http.auth import DOOR, OPEN
from api.main import PARTS, create_app
from api.page.parts import PAGES
from core.ledger import keys
from core.ledger.database import READ_ONLY, Database
from core.ledger.files.storage import LocalStorage
from core.ledger.jobs import attempts, claims
from core.ledger.settings import Settings
from core.ledger.tables import DEFAULT_TENANT, Key
from tests.api.conftest import MODEL, one_database, reviews, write_model

NO_SUCH = {
    "dataset_id": "ds_" + "0" * 32,
    "job_id": "job_" + "0" * 32,
    "key_id": "key_" + "0" * 32,
    "upload_id": "up_" + "0" * 32,
}


@pytest.fixture
def app(settings: Settings) -> Any:
    write_model(settings.models_dir / MODEL)
    return create_app(settings.model_copy(update={"require_keys": True}))


def make_key(database: Database, tenant: str, *scopes: str, **options: Any) -> dict[str, str]:
    """Headers with a new key."""
    with database.begin() as session:
        secret = keys.create(session, keys.tenant(session, tenant), tenant, scopes, **options)[1]
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def client(app: Any, database: Database) -> Iterator[TestClient]:
    """The operator's client, with a key that may do everything."""
    headers = make_key(database, "default", *keys.SCOPES)
    with TestClient(app, "http://localhost", headers=headers, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def operations(client: TestClient) -> list[tuple[str, str]]:
    """(method, path) of everything that the application answers, described or not, beside the open addresses."""
    routes: list[Any] = [*client.app.routes, *(route for part in (*PARTS, *PAGES) for route in part.router.routes)]  # type: ignore[attr-defined]
    found = [(m, r.path.replace(":path}", "}")) for r in routes if hasattr(r, "methods") for m in sorted(r.methods)]
    described = client.get("/openapi.json").json()["paths"].items()
    assert {(m.upper(), p) for p, methods in described for m in methods} <= {*found}
    return [(method, path) for method, path in found if path not in OPEN and not path.startswith(DOOR)]


def as_(client: TestClient, headers: dict[str, str]) -> Any:
    """Send requests with other headers."""
    return lambda method, path: client.request(
        method,
        path,
        headers={"Authorization": "", **headers},
        json={} if method == "POST" else None,
        params={"sha256": "0" * 64} if method == "PUT" else None,
    )


def test_nothing_but_the_open_addresses_works_without_a_key(
    client: TestClient, operations: list[tuple[str, str]], database: Database
) -> None:
    assert len(operations) > 20
    expired = make_key(database, "default", *keys.SCOPES, expires_at=1)
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer topwork_guess"}, {"Authorization": "x"}, expired):
        send = as_(client, headers)
        for method, path in [*operations, ("GET", "/v1/nothing"), ("GET", "/other")]:
            answer = send(method, path)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            if method != "HEAD":
                assert answer.headers["content-type"] == "application/problem+json"
        assert {send("GET", path).status_code for path in ("/healthz", "/docs", "/openapi.json")} == {200}


def test_each_scope_opens_what_it_names(
    client: TestClient, operations: list[tuple[str, str]], database: Database
) -> None:
    headers = {scope: make_key(database, "default", scope) for scope in keys.SCOPES}
    for method, path in operations:
        path = re.sub(r"{\w+}", "unknown", path)
        needed = {"read" if method in ("GET", "HEAD") else "write"}
        needed |= {"admin"} if path.startswith(("/v1/keys", "/keys")) or path == "/metrics" else set()
        for scope in keys.SCOPES:
            refused = as_(client, headers[scope])(method, path).status_code == 403
            assert refused == (needed != {scope}), (method, path, scope)


@pytest.fixture
def belongings(client: TestClient, settings: Settings, database: Database, tmp_path: Any) -> dict[str, str]:
    """Path parameter -> what the operator's tenant has: one of everything."""
    dataset = client.post("/v1/datasets", files={"file": ("reviews.csv", reviews(60))}).json()["id"]
    spec = {"model": MODEL, "task": {"data": {"dataset": dataset}}, "budget": {"params": 0.3}}
    job_id = client.post("/v1/jobs", json=spec).json()["id"]
    (tmp_path / "report.json").write_text("{}")
    outputs = {"report.json": LocalStorage(settings.blobs_dir).put(tmp_path / "report.json")}
    with database.begin() as session:
        claims.claim(session, job_id, "w", 30)
        attempts.succeed(session, job_id, 1, {}, outputs)
    key = client.post("/v1/keys", json={"name": "other"}).json()["id"]
    upload = client.post("/v1/uploads", json={"name": "a.csv", "size_bytes": 9, "sha256": "0" * 64}).json()["id"]
    return {
        "upload_id": upload,
        "number": "1",
        "dataset_id": dataset,
        "job_id": job_id,
        "path": "report.json",
        "size": "params-0.1",
        "key_id": key,
    }


def test_another_tenant_learns_nothing(
    client: TestClient, operations: list[tuple[str, str]], belongings: dict[str, str], database: Database
) -> None:
    """Of each address: what is somebody else's is answered as what does not exist, and named nowhere."""
    send = as_(client, make_key(database, "stranger", *keys.SCOPES))
    before = {path: client.get(path).text for path in ("/v1/datasets", "/v1/jobs", "/v1/keys")}
    tried = 0
    ids = [value for name, value in belongings.items() if name.endswith("_id")]
    for method, path in operations:
        if "{" not in path:
            assert not [one for one in ids if one in send(method, path).text], (method, path)
            continue
        foreign = send(method, path.format(**belongings))
        unknown = send(method, path.format(**belongings | NO_SUCH))
        assert foreign.status_code == unknown.status_code == 404, (method, path)
        assert foreign.content == unknown.content, (method, path)
        tried += 1
    assert tried >= 19
    for path in ("/v1/datasets", "/v1/jobs", "/v1/jobs?status=succeeded"):
        assert send("GET", path).json() == {"items": [], "next": None}
    assert [key["name"] for key in send("GET", "/v1/keys").json()["items"]] == ["stranger"]
    assert send("GET", "/metrics").status_code == 403  # numbers of all tenants
    assert {path: client.get(path).text for path in before} == before  # and nothing was changed


def test_another_tenants_data_set_is_as_good_as_none(
    client: TestClient, belongings: dict[str, str], database: Database
) -> None:
    stranger = make_key(database, "stranger", *keys.SCOPES)

    def refusal(dataset: str) -> Any:
        spec = {"model": MODEL, "task": {"data": {"dataset": dataset}}, "budget": {"params": 0.3}}
        answer = client.post("/v1/jobs", json=spec, headers=stranger)
        assert answer.status_code == 422
        return answer.text.replace(dataset, "")

    assert refusal(belongings["dataset_id"]) == refusal(NO_SUCH["dataset_id"])


def test_a_key_is_made_used_listed_and_revoked(client: TestClient, database: Database) -> None:
    made = client.post("/v1/keys", json={"name": "nightly", "scopes": ["read"], "expires_in_days": 1})
    assert made.status_code == 201 and made.headers["cache-control"] == "no-store"
    key = made.json()
    secret = key.pop("secret")
    assert len(secret) >= 43 and key["expires_at"] > key["created_at"]
    headers = {"Authorization": f"bearer  {secret} "}
    assert client.get("/v1/jobs", headers=headers).status_code == 200
    assert client.get("/v1/keys").json()["items"][0] == key
    assert secret not in client.get("/v1/keys").text
    with database.read() as session:
        assert secret not in str([vars(row) for row in session.query(Key)])
    for _ in range(2):
        assert client.delete(f"/v1/keys/{key['id']}").status_code == 204
    assert client.get("/v1/jobs", headers=headers).status_code == 401
    assert client.get("/v1/keys").json()["items"][0]["revoked_at"] is not None


def test_a_key_expires(client: TestClient, database: Database) -> None:
    key = client.post("/v1/keys", json={"name": "short", "expires_in_days": 1}).json()
    headers = {"Authorization": f"Bearer {key['secret']}"}
    assert client.get("/v1/jobs", headers=headers).status_code == 200
    with database.begin() as session:
        session.execute(update(Key).where(Key.id == key["id"]).values(expires_at=1))
    assert client.get("/v1/jobs", headers=headers).status_code == 401


@one_database
def test_the_key_that_asks_is_not_revoked_by_mistake(client: TestClient) -> None:
    [own] = client.get("/v1/keys").json()["items"]
    assert client.delete(f"/v1/keys/{own['id']}").status_code == 409


@one_database
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "x", "scopes": []}, "/scopes"),
        ({"name": "x", "scopes": ["root"]}, "/scopes/0"),
        ({"name": "x", "expires_in_days": 0}, "/expires_in_days"),
        ({"name": "x", "tenant": "other"}, "/tenant"),
    ],
)
def test_a_wrong_key_request_is_refused_by_field(client: TestClient, body: dict[str, Any], pointer: str) -> None:
    answer = client.post("/v1/keys", json=body)
    assert (answer.status_code, [f["pointer"] for f in answer.json()["errors"]]) == (422, [pointer])


@one_database
def test_a_body_is_not_read_for_nobody(client: TestClient) -> None:
    def body() -> Iterator[bytes]:
        raise AssertionError("was read")
        yield b""

    for path in ("/v1/jobs", "/v1/datasets"):
        assert client.post(path, content=body(), headers={"Authorization": ""}).status_code == 401


@one_database
def test_without_keys_only_this_machine_is_served(settings: Settings, database: Database) -> None:
    app = create_app(settings)
    for address, code in {
        "http://localhost": 200,
        "http://localhost:8000": 200,
        "http://127.0.0.1:8000": 200,
        "http://[::1]:8000": 200,
        "http://10.0.0.5:8000": 403,
        "http://[2001:db8::1]": 403,
    }.items():
        with TestClient(app, address) as client:
            assert client.get("/v1/jobs").status_code == code, address
            assert client.get("/healthz").status_code == 200
    with TestClient(app, "http://localhost") as client:  # a name that was made to point here
        for host in ("evil.example", "localhost.evil.example", "", "["):
            answer = client.get("/v1/jobs", headers={"Host": host})
            assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    with TestClient(app, "http://10.0.0.5") as client:  # or a header that says so, over the network
        assert client.get("/v1/jobs", headers={"Host": "localhost"}).status_code == 403


@one_database
def test_without_keys_no_page_of_another_site_and_nobody_behind_a_proxy_is_served(
    settings: Settings, database: Database
) -> None:
    with TestClient(create_app(settings), "http://localhost") as client:

        def code(**headers: str) -> int:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            return client.post("/v1/datasets", files={"file": ("a.csv", b"a,b\n1,2\n")}, headers=given).status_code

        assert code() == code(origin="http://localhost:8000", sec_fetch_site="same-origin") == 201
        for origin in ("https://evil.example", "null", "", "http://[", "http://10.0.0.5"):
            assert code(origin=origin) == 403, origin
        for site in ("cross-site", "same-site"):
            assert code(sec_fetch_site=site) == 403
        for name in ("x-forwarded-for", "forwarded", "via", "x-real-ip"):
            assert code(**{name: "10.0.0.5"}) == 403, name
        assert len(client.get("/v1/datasets", headers={"Sec-Fetch-Site": "none"}).json()["items"]) == 2
        assert client.get("/healthz", headers={"X-Forwarded-For": "10.0.0.5"}).status_code == 200


@one_database
def test_no_free_connection_is_503(app: Any, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = app.state.context.database.engine
    monkeypatch.setattr(engine.pool, "_timeout", 0.1)
    with contextlib.ExitStack() as stack:
        for _ in range(engine.pool.size() + engine.pool._max_overflow):
            stack.enter_context(engine.execution_options(**READ_ONLY).connect())
        answer = client.get("/v1/jobs")
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert client.get("/v1/jobs").status_code == 200


def test_a_database_that_is_away_lets_nobody_in(tmp_path: Any) -> None:
    with TestClient(create_app(Settings(data_dir=tmp_path)), "http://localhost") as client:  # no tables yet
        answer = client.get("/v1/jobs", headers={"Authorization": "Bearer x"})
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")


def test_the_default_tenant_is_the_operators(database: Database) -> None:
    with database.begin() as session:
        assert keys.tenant(session, "default") == DEFAULT_TENANT
        assert not keys.admins(session)


def test_a_key_has_quotas_of_its_own(client: TestClient, database: Database) -> None:
    made = client.post(
        "/v1/keys", json={"name": "nightly", "max_queued": 1, "max_running": 1, "max_stored_bytes": 9999}
    )
    assert made.status_code == 201
    small = {"Authorization": f"Bearer {made.json()['secret']}"}
    data = client.post("/v1/datasets", files={"file": ("reviews.csv", reviews(60))}, headers=small).json()
    spec = {"model": MODEL, "task": {"data": {"dataset": data["id"]}}, "budget": {"params": 0.3}}

    def submit(headers: dict[str, str]) -> Any:
        return client.post("/v1/jobs", json=spec, headers=headers)

    first, full = submit(small), submit(small)
    assert (first.status_code, full.status_code) == (202, 429) and "of this key" in full.json()["detail"]
    of_other_keys = [submit({}).json()["id"] for _ in range(2)]

    with database.begin() as session:
        assert claims.claim_next(session, "w", 60).id == first.json()["id"]  # type: ignore[union-attr]
    second = submit(small)
    assert second.status_code == 202
    with database.begin() as session:
        claimed = [claims.claim_next(session, "w", 60) for _ in range(3)]
        assert [job and job.id for job in claimed] == [*of_other_keys, None]  # passed over, and nobody waits for it
        attempts.succeed(session, first.json()["id"], 1, {}, {"model.safetensors": ("0" * 64, 9000)})
        assert claims.claim_next(session, "w", 60) is None  # the key keeps as much as it may
        assert claims.claim(session, second.json()["id"], "w", 60) is not None

    def upload(headers: dict[str, str]) -> Any:
        return client.post("/v1/datasets", files={"file": ("more.csv", reviews(60, first=100))}, headers=headers)

    refused = upload(small)
    assert refused.status_code == 403 and "of this key" in refused.json()["detail"]
    part = {"name": "a.csv", "size_bytes": 9000, "sha256": "0" * 64}
    assert client.post("/v1/uploads", json=part, headers=small).status_code == 403
    assert upload({}).status_code == 201 and client.post("/v1/uploads", json=part).status_code == 201
    assert submit(small).status_code == 403
    client.delete(f"/v1/jobs/{first.json()['id']}")
    assert upload(small).status_code == 201
