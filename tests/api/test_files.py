"""Downloads: whole, in parts, resumed, conditional."""

from __future__ import annotations

import hashlib
import random

import pytest
from fastapi.testclient import TestClient

from core.ledger.files.stores import open_storage
from core.ledger.settings import Settings
from tests.api.conftest import OUTPUTS, WEIGHTS, one_database
from tests.conftest import every_storage

pytestmark = every_storage


def test_list_and_download_every_file(client: TestClient, files: str) -> None:
    items = {item["path"]: item for item in client.get(files).json()["items"]}
    assert items.keys() == OUTPUTS.keys()
    for path, content in OUTPUTS.items():
        item, answer = items[path], client.get(items[path]["href"])
        assert answer.status_code == 200
        assert answer.content == content
        assert item["size_bytes"] == len(content) == int(answer.headers["content-length"])
        assert item["sha256"] == hashlib.sha256(content).hexdigest()
        assert answer.headers["etag"] == f'"{item["sha256"]}"'
        assert answer.headers["content-type"] == item["media_type"]
        assert answer.headers["content-disposition"].startswith("attachment;")
        head = client.head(item["href"])
        assert (head.status_code, head.content) == (200, b"")
        for one in (head, answer):  # of each request its own
            del one.headers["x-request-id"]
        assert head.headers == answer.headers
    assert items["report.json"]["media_type"] == "application/json"
    assert items["model.safetensors"]["media_type"] == "application/octet-stream"
    odd = client.get(items['sub/odd "na\u00efve" name.py']["href"]).headers["content-disposition"]
    assert odd == "attachment; filename*=utf-8''odd%20%22na%C3%AFve%22%20name.py"


def test_a_page_can_run_and_fetch_nothing(client: TestClient, files: str) -> None:
    for answer in (
        client.get(f"{files}/report.html"),
        client.head(f"{files}/report.html"),
        client.get(f"{files}/report.html", headers={"Range": "bytes=0-14"}),
    ):
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["content-disposition"].startswith("attachment;")
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"


@one_database
@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=2000000-", 2_000_000, len(WEIGHTS)),
        ("bytes=-5", len(WEIGHTS) - 5, len(WEIGHTS)),
        ("bytes=-99999999", 0, len(WEIGHTS)),
        (f"bytes={len(WEIGHTS) - 1}-99999999999999999", len(WEIGHTS) - 1, len(WEIGHTS)),
    ],
)
def test_a_range(client: TestClient, files: str, header: str, start: int, end: int) -> None:
    answer = client.get(f"{files}/model.safetensors", headers={"Range": header})
    assert answer.status_code == 206
    assert answer.content == WEIGHTS[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(WEIGHTS)}"
    assert int(answer.headers["content-length"]) == end - start


@one_database
@pytest.mark.parametrize(
    "header", ["bytes=5-2", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes", "", f"bytes={'9' * 500}-"]
)
def test_a_range_that_is_malformed_or_manifold_is_ignored(client: TestClient, files: str, header: str) -> None:
    answer = client.get(f"{files}/model.safetensors", headers={"Range": header})
    assert answer.status_code == 200
    assert answer.content == WEIGHTS


@one_database
@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("model.safetensors", f"bytes={len(WEIGHTS)}-"),
        ("model.safetensors", "bytes=-0"),
        ("empty.txt", "bytes=0-"),
        ("empty.txt", "bytes=-5"),
    ],
)
def test_a_range_outside_the_file(client: TestClient, files: str, path: str, header: str) -> None:
    answer = client.get(f"{files}/{path}", headers={"Range": header})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(OUTPUTS[path])}"
    assert answer.headers["content-type"] == "application/problem+json"


@one_database
def test_a_download_cut_at_random_places_is_resumed(client: TestClient, files: str) -> None:
    got, rng, etag = b"", random.Random(1), client.head(f"{files}/model.safetensors").headers["etag"]
    while len(got) < len(WEIGHTS):
        headers = {"Range": f"bytes={len(got)}-", "If-Range": etag}
        with client.stream("GET", f"{files}/model.safetensors", headers=headers) as answer:
            assert answer.status_code == 206
            part = b"".join(answer.iter_bytes())
        got += part[: rng.randrange(1, 2**20)]
    assert hashlib.sha256(got).hexdigest() == etag.strip('"')


def test_if_range_with_another_tag_sends_everything(client: TestClient, files: str) -> None:
    for other in ('"0"', "W/" + client.head(f"{files}/report.json").headers["etag"], "Sat, 21 Nov 2026 00:00:00 GMT"):
        answer = client.get(f"{files}/report.json", headers={"Range": "bytes=1-1", "If-Range": other})
        assert (answer.status_code, answer.content) == (200, b"{}")


def test_if_none_match(client: TestClient, files: str) -> None:
    etag = client.head(f"{files}/report.json").headers["etag"]
    for tags in (etag, f"W/{etag}", f'"0", {etag}', "*"):
        for answer in (
            client.get(f"{files}/report.json", headers={"If-None-Match": tags, "Range": "bytes=0-0"}),
            client.head(f"{files}/report.json", headers={"If-None-Match": tags}),
        ):
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert client.get(f"{files}/report.json", headers={"If-None-Match": '"0"'}).status_code == 200


@one_database
@pytest.mark.parametrize("path", ["nothing", "%00", "..%2f..%2ftopwork.db", "/etc/passwd", "report.json/", "x" * 3000])
def test_other_paths_are_404(client: TestClient, files: str, path: str) -> None:
    answer = client.get(f"{files}/{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_file_that_storage_has_lost_is_an_error_and_no_short_download(
    client: TestClient, files: str, settings: Settings
) -> None:
    open_storage(settings).delete(hashlib.sha256(WEIGHTS).hexdigest())
    answer = client.get(f"{files}/model.safetensors")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert str(settings.data_dir) not in answer.text
