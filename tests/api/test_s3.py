"""What the API does where files lie in S3: redirects, and answers while S3 is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from core.ledger import keys
from core.ledger.database import Database
from core.ledger.settings import Settings
from tests.api.conftest import OUTPUTS, WEIGHTS, one_database, reviews
from tests.conftest import Broker

pytestmark = [one_database, pytest.mark.parametrize("storage_url", ["s3"], indirect=True)]


@pytest.fixture
def redirecting(settings: Settings, files: str) -> Iterator[TestClient]:
    """A client of an API that lets clients fetch `files` from S3."""
    app = create_app(settings.model_copy(update={"downloads": "redirect"}))
    with TestClient(app, "http://localhost", follow_redirects=False) as client:
        yield client


def test_a_download_is_redirected_to_a_link_that_gives_the_file(redirecting: TestClient, files: str) -> None:
    for item in redirecting.get(files).json()["items"]:
        answer = redirecting.get(item["href"])
        assert (answer.status_code, answer.content) == (307, b"")
        assert answer.headers["cache-control"] == "no-store"
        link = answer.headers["location"]
        assert item["sha256"] in link and "X-Amz-Expires=300" in link and "tests-own" not in link
        whole = httpx.get(link)
        assert whole.content == OUTPUTS[item["path"]]
        assert whole.headers["content-type"] == item["media_type"]
        assert whole.headers["content-disposition"].startswith("attachment;")
    link = redirecting.get(f"{files}/model.safetensors", headers={"Range": "bytes=5-9"}).headers["location"]
    part = httpx.get(link, headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, WEIGHTS[5:10])


def test_what_the_storage_cannot_answer_is_not_redirected(redirecting: TestClient, files: str) -> None:
    path = f"{files}/model.safetensors"
    head = redirecting.head(path)
    etag = head.headers["etag"]
    assert head.status_code == 200
    assert redirecting.get(path, headers={"If-None-Match": etag}).status_code == 304
    resumed = redirecting.get(path, headers={"Range": "bytes=9-", "If-Range": etag})
    assert (resumed.status_code, resumed.content) == (206, WEIGHTS[9:])
    outside = redirecting.get(path, headers={"Range": f"bytes={len(WEIGHTS)}-"})
    assert (outside.status_code, outside.headers["content-type"]) == (416, "application/problem+json")
    page = redirecting.get(files.replace("/files", "/report"), headers={"Accept": "text/html"})
    assert page.status_code == 200 and "sandbox" in page.headers["content-security-policy"]
    assert redirecting.get(files.replace("/files", "/archive")).status_code == 200


def test_nobody_gets_a_link_to_what_is_anothers(settings: Settings, database: Database, files: str) -> None:
    with database.begin() as session:
        secrets = [keys.create(session, keys.tenant(session, t), t, ["read"])[1] for t in ("default", "stranger")]
    app = create_app(settings.model_copy(update={"downloads": "redirect", "require_keys": True}))
    with TestClient(app, "http://localhost", follow_redirects=False) as client:
        answers = [
            client.get(f"{files}/report.json", headers=headers)
            for headers in ({}, *({"Authorization": f"Bearer {secret}"} for secret in secrets))
        ]
    assert [answer.status_code for answer in answers] == [401, 307, 404]
    assert ["location" in answer.headers for answer in answers] == [False, True, False]


@pytest.mark.parametrize(
    ("fault", "said"),
    [("bucket", "bucket does not exist"), ("credentials", "no credentials"), ("server", "cannot be reached")],
)
def test_a_storage_that_cannot_be_used_is_named_and_nothing_of_it(
    client: TestClient,
    settings: Settings,
    files: str,
    broker: Broker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    said: str,
) -> None:
    changes = {"broker_url": broker.url}
    if fault == "bucket":
        changes["storage_url"] = "s3://no-such-bucket/top"
    elif fault == "credentials":
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    app = create_app(settings.model_copy(update=changes))
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        [reason] = answer.json()["errors"]
        assert reason["parameter"] == "storage" and said in reason["detail"]
        refused = client.post("/v1/datasets", files={"file": ("reviews.csv", reviews(9))})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        for text in (answer.text, refused.text):
            assert not any(secret in text for secret in ("127.0.0.1", "no-such-bucket", "tests-own"))
        assert client.get(f"{files}/model.safetensors").status_code == 503
        assert client.get("/healthz").status_code == 200
