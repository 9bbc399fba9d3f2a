"""Data sets of a hub, which a server on this machine plays."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from huggingface_hub import constants

from api.planning import hub as room
from core.ledger import keys
from core.ledger.database import Database
from core.ledger.settings import Settings
from core.spec.errors import SpecError
from tests.api.conftest import MODEL, one_database, reviews

COMMITS = ["c0ffee" * 6 + "c0ff", "decade" * 6 + "deca"]
Files = dict[str, bytes]


def parquet(content: bytes) -> bytes:
    """A CSV file as Parquet."""
    rows = [line.split(",") for line in content.decode().splitlines()[1:]]
    out = io.BytesIO()
    pq.write_table(pa.table({"text": [r[0] for r in rows], "label": [r[1] for r in rows]}), out)
    return out.getvalue()


class Hub:
    """The two routes that a data set is fetched by; what it holds can change, as after a push."""

    def __init__(self) -> None:
        self.files: dict[str, Files] = {
            "acme/reviews": {
                "README.md": b"# Reviews\n",
                "load.py": b"raise SystemExit\n",
                "data/train-00000-of-00002.parquet": parquet(reviews(60)),
                "data/train-00001-of-00002.parquet": parquet(reviews(40, first=60)),
                "data/validation-00000-of-00001.parquet": parquet(reviews(30, first=200)),
                "data/test.parquet": parquet(reviews(20, first=300)),
            },
            "acme/movies": {"movies.csv": reviews(50, first=1000)},
        }
        self.cards: dict[str, Any] = {}
        self.commit = COMMITS[0]
        self.refused: dict[str, tuple[int, str]] = {"acme/secret": (401, "RepoNotFound"), "acme/gated": (200, "")}
        self.sizes: dict[str, int] = {}
        self.redirects: dict[str, str] = {}
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        played = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                played.headers.append({k.lower(): v for k, v in self.headers.items()})
                played.answer(self, unquote(self.path.partition("?")[0]).strip("/").split("/"))

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, request: BaseHTTPRequestHandler, path: list[str]) -> None:
        """Answer one request."""
        self.asked.append("/".join(path))
        name = "/".join(path[2:4] if path[0] == "api" else path[1:3])
        headers, body, status = {}, b"{}", 200
        if name in self.refused and self.refused[name][0] != 200:
            status, headers["X-Error-Code"] = self.refused[name]
        elif path[0] == "api":
            revision = "/".join(path[5:])
            if revision not in ("main", "v1", "refs/convert/parquet", self.commit):
                status, headers["X-Error-Code"] = 404, "RevisionNotFound"
            files = self.files.get(name, {})
            sizes = {file: self.sizes.get(file, len(content)) for file, content in files.items()}
            siblings = [{"rfilename": file, "size": size} for file, size in sizes.items()]
            info = {"id": name, "sha": self.commit, "siblings": siblings, "cardData": self.cards.get(name)}
            body = json.dumps(info | {"gated": "auto" if name in self.refused else False, "private": False}).encode()
        else:
            file = "/".join(path[5:])
            if file in self.redirects:
                status, headers["Location"] = 302, self.redirects.pop(file)
            elif path[4] != self.commit:
                status, headers["X-Error-Code"] = 404, "EntryNotFound"
            else:
                body = self.files[name][file]
        request.send_response(status)
        for header, value in (headers | {"Content-Length": str(len(body))}).items():
            request.send_header(header, value)
        request.end_headers()
        request.wfile.write(body)

    @property
    def fetched(self) -> list[str]:
        """Files that were asked for."""
        return [path.rpartition(f"/{self.commit}/")[2] for path in self.asked if "/resolve/" in path]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    threading.Thread(target=hub.server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


def job(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"model": MODEL, "task": {"data": data}, "budget": {"params": 0.3}} | changes


def source(data: dict[str, Any]) -> dict[str, Any]:
    return {"data": data, "label": "label"}


def refusal(client: TestClient, data: dict[str, Any]) -> str:
    """Why the data of a task is refused."""
    answer = client.post("/v1/jobs", json=job(data))
    assert answer.status_code == 422, answer.text
    [fault] = answer.json()["errors"]
    assert fault["pointer"] == "/task/data/hub"
    return str(fault["detail"])


def test_a_job_takes_data_of_a_hub_as_it_is_at_its_commit(client: TestClient, hub: Hub) -> None:
    body = job({"hub": "acme/reviews@v1"}, sources=[source({"hub": "acme/movies"})])
    plan = client.post("/v1/jobs:validate", json=body)
    assert plan.status_code == 200, plan.text
    rows = plan.json()["rows"]
    assert (rows["train"] + rows["dev"] + rows["test"], rows["sources"]) == (100, [50])
    assert sorted(hub.fetched) == [*(f"data/train-0000{n}-of-00002.parquet" for n in (0, 1)), "movies.csv"]

    first = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "one"})
    assert first.status_code == 202, first.text
    assert len(hub.fetched) == 3  # what was fetched is there
    target = first.json()["spec"]["task"]["data"]
    assert (target["hub"], target["split"]) == (f"acme/reviews@{COMMITS[0]}", "train")
    made = client.get(f"/v1/datasets/{target['dataset']}").json()
    assert (made["name"], made["rows"], made["format"]) == (f"acme/reviews@{COMMITS[0]}/train", 100, "parquet")

    hub.commit = COMMITS[1]  # a push
    hub.files["acme/reviews"] = {"train.jsonl": b'{"text": "x", "label": "y"}\n'}
    again = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "one"})
    assert (again.json()["id"], again.json()["spec"]) == (first.json()["id"], first.json()["spec"])
    refused = client.post("/v1/jobs", json=body)  # one row: it is the new commit that is read
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/task/data/hub"]

    hub.server.shutdown()
    hub.server.server_close()
    pinned = client.post("/v1/jobs", json=first.json()["spec"])
    by_commit = client.post("/v1/jobs", json=job({"hub": f"acme/reviews@{COMMITS[0]}"}))
    assert (pinned.status_code, by_commit.status_code) == (202, 202)
    assert by_commit.json()["spec"]["task"]["data"] == target == pinned.json()["spec"]["task"]["data"]
    assert not any("authorization" in headers for headers in hub.headers)  # for every tenant, so for nobody


@one_database
def test_each_part_of_a_task_has_its_split(client: TestClient, hub: Hub) -> None:
    named = {"hub": "acme/reviews"}
    answer = client.post("/v1/jobs:validate", json=job({"train": named, "dev": named, "test": named}))
    assert answer.status_code == 200, answer.text
    assert [answer.json()["rows"][part] for part in ("train", "dev", "test")] == [100, 30, 20]
    data = client.get("/v1/datasets").json()["items"]
    assert sorted(one["name"].rpartition("/")[2] for one in data) == ["test", "train", "validation"]
    assert refusal(client, named | {"split": "extra"}).startswith(
        "'acme/reviews' has no files that are tables (there are "
    )


@one_database
def test_the_card_says_which_files_are_which(client: TestClient, hub: Hub) -> None:
    english, german = reviews(40), reviews(50, first=100)
    hub.files["acme/many"] = {"a/x.csv": english, "b/x-1.csv": german, "b/other.csv": reviews(9), "train.csv": b""}
    configs = [
        {"config_name": "en", "data_files": "a/*.csv"},
        {"config_name": "de", "data_files": [{"split": "train", "path": ["b/x-*"]}]},
    ]
    hub.cards["acme/many"] = {"configs": configs}
    assert "several configs; give one of these as 'config': 'de', 'en'" in refusal(client, {"hub": "acme/many"})
    assert "no config 'fr'" in refusal(client, {"hub": "acme/many", "config": "fr"})
    assert "no split 'test'; give one of 'train'" in refusal(
        client, {"hub": "acme/many", "config": "de", "split": "test"}
    )
    german_job = client.post("/v1/jobs", json=job({"hub": "acme/many", "config": "de"}))
    assert german_job.status_code == 202, german_job.text
    configs[0]["default"] = True  # type: ignore[assignment]
    hub.commit = COMMITS[1]
    english_job = client.post("/v1/jobs", json=job({"hub": "acme/many"}))
    assert english_job.json()["spec"]["task"]["data"]["config"] == "en"
    made = client.get("/v1/datasets").json()["items"]
    assert [one["rows"] for one in made] == [40, 50]


@one_database
def test_the_cards_patterns_match_as_paths(client: TestClient, hub: Hub) -> None:
    def rows(*names: str, **config: Any) -> int:
        """Of the files that the card's one config chooses."""
        hub.files["acme/paths"] = {name: reviews(10 * (n + 1), first=100 * n) for n, name in enumerate(names)}
        hub.cards["acme/paths"] = {"configs": [{"config_name": "default", **config}]}
        hub.commit = hashlib.sha1(repr((names, config)).encode()).hexdigest()
        answer = client.post("/v1/jobs", json=job({"hub": "acme/paths"}))
        assert answer.status_code == 202, (names, config, answer.text)
        dataset = answer.json()["spec"]["task"]["data"]["dataset"]
        return int(client.get(f"/v1/datasets/{dataset}").json()["rows"])

    assert rows("a.csv", "old/b.csv", data_files="*.csv") == 10
    assert rows("a.csv", "old/b.csv", data_files="old/?.csv") == 20
    assert rows("train.csv", "a/train.csv", "a/b/train.csv", data_files="**/train.csv") == 60
    assert rows("x.csv", "a/x.csv", "a/b/x.csv", "b/x.csv", data_files="a/**") == 50
    assert rows("x.csv", "a/b/c/x.csv", "b/x.csv", data_files="a/**/c/*.csv") == 20
    assert rows("train.csv", "a/train.csv", data_files="./train.csv") == 10
    assert rows("train.csv", "data/train.csv", data_dir="data", data_files="train.csv") == 20
    assert rows("train.csv", "data/train.csv", data_dir="./data/") == 20
    for nowhere in ("../train.csv", "/train.csv", "https://x/train.csv", "*/*/*.csv", "**/" * 30 + "y"):
        hub.cards["acme/paths"] = {"configs": [{"config_name": "default", "data_files": nowhere}]}
        assert "no files that are tables" in refusal(client, {"hub": "acme/paths"})


@one_database
def test_a_card_cannot_keep_the_server_at_work(client: TestClient, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.files["acme/much"] = {"train.csv": reviews(40)}
    for patterns, said in (
        (["*.csv"] * 1001, "1,001 patterns of files for one split"),
        (["**/" * 32 + "*.csv"], "a pattern of files of 33 parts"),
    ):
        hub.cards["acme/much"] = {"configs": [{"data_files": [{"split": "train", "path": patterns}]}]}
        refused = refusal(client, {"hub": "acme/much"})
        assert said in refused and "acme/much@refs/convert/parquet" in refused
    hub.files["acme/much"] = {f"{n}.txt": b"" for n in range(20_001)}
    assert "20,001 files" in refusal(client, {"hub": "acme/much"})
    hub.files["acme/much"] = {"train.csv": reviews(40)}
    hub.cards["acme/much"] = {"configs": [{"data_files": "*.csv"}]}
    choose, loops = room._choose, []

    def seen(*given: Any) -> Any:
        loops.append(asyncio._get_running_loop())
        return choose(*given)

    monkeypatch.setattr(room, "_choose", seen)
    assert client.post("/v1/jobs", json=job({"hub": "acme/much"})).status_code == 202
    assert loops == [None]


@one_database
def test_the_hubs_own_conversion_can_be_named(client: TestClient, hub: Hub) -> None:
    hub.files["acme/odd"] = {"odd.py": b"", "data.zip": b"PK"}
    assert "'acme/odd@refs/convert/parquet'" in refusal(client, {"hub": "acme/odd"})
    hub.files["acme/odd"] = {
        "plain/train/0000.parquet": parquet(reviews(30)),
        "plain/test/0000.parquet": parquet(reviews(9)),
        "other/partial-train/0000.parquet": parquet(reviews(20)),
    }
    converted = {"hub": "acme/odd@refs/convert/parquet"}
    assert "'other', 'plain'" in refusal(client, converted)
    for config, rows in (("plain", 30), ("other", 20)):
        data = client.post("/v1/jobs", json=job(converted | {"config": config})).json()["spec"]["task"]["data"]
        assert client.get(f"/v1/datasets/{data['dataset']}").json()["rows"] == rows


@one_database
def test_nothing_but_tables_is_ever_fetched(client: TestClient, hub: Hub) -> None:
    hub.files["acme/script"] = {"script.py": b"", "train.pkl": b"x", "train.tar.gz": b"x", "dataset_infos.json": b"{}"}
    said = refusal(client, {"hub": "acme/script"})
    assert "no files that are tables (there are .gz, .json, .pkl, .py)" in said
    hub.files["acme/mixed"] = {"train.csv": reviews(9), "train.parquet": parquet(reviews(9))}
    assert "several formats" in refusal(client, {"hub": "acme/mixed"})
    hub.files["acme/shards"] = {f"train-{n}.csv": b"" for n in range(201)}
    assert "more than 200 files" in refusal(client, {"hub": "acme/shards"})
    assert hub.fetched == []


@one_database
def test_what_cannot_be_had_says_how_to_mend(client: TestClient, hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    assert "no public data set 'acme/secret'" in refusal(client, {"hub": "acme/secret"})
    assert "private or gated" in refusal(client, {"hub": "acme/gated"})
    assert "no revision 'v9'" in refusal(client, {"hub": "acme/reviews@v9"})
    hub.files["acme/vague"] = {"train.csv": reviews(9)}
    hub.commit = "main"
    assert "names no commit" in refusal(client, {"hub": "acme/vague"})
    hub.refused["acme/odd"] = (500, "")
    assert "did not answer as it should (HfHubHTTPError)" in refusal(client, {"hub": "acme/odd"})
    [warned] = [line.getMessage() for line in caplog.records if line.name == "api.planning.hub"]
    assert warned == "the hub does not answer: HfHubHTTPError" and not any(line.exc_info for line in caplog.records)
    both = client.post("/v1/jobs", json=job({"hub": "acme/secret"}, sources=[source({"hub": "acme/gated"})]))
    assert [fault["pointer"] for fault in both.json()["errors"]] == ["/task/data/hub", "/sources/0/data/hub"]
    assert client.get("/v1/datasets").json()["items"] == []


@one_database
def test_a_hub_that_cannot_be_reached_is_said_at_once(
    client: TestClient, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.server.shutdown()
    hub.server.server_close()
    assert "HF_ENDPOINT, or download it, and upload it" in refusal(client, {"hub": "acme/reviews"})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "OfflineModeIsEnabled" in refusal(client, {"hub": "acme/reviews"})


@one_database
@pytest.mark.parametrize("several", [False, True], ids=["one config", "several configs"])
@pytest.mark.field("1. Data at the door", "classes that only a hub's card names", "the names, in data, plan and report")
def test_classes_have_the_names_of_the_card(client: TestClient, hub: Hub, several: bool) -> None:
    lines = [json.dumps({"text": f"review {n}", "label": n % 2}) for n in range(60)]
    hub.files["acme/numbered"] = {f"plain/{name}.jsonl": "\n".join(lines).encode() for name in ("train", "test")}
    names = {"class_label": {"names": {"0": "bad", "1": "good"}}}
    info = {
        "config_name": "plain",
        "features": [{"name": "text", "dtype": "string"}, {"name": "label", "dtype": names}],
    }
    other = {"config_name": "other", "features": [{"name": "label", "dtype": {"class_label": {"names": ["x", "y"]}}}]}
    configs = [{"config_name": "plain", "data_files": "plain/train.jsonl"}]
    hub.cards["acme/numbered"] = {"dataset_info": [other, info] if several else info, "configs": configs}
    plan = client.post("/v1/jobs:validate", json=job({"hub": "acme/numbered"}))
    assert plan.status_code == 200, plan.text
    assert plan.json()["labels"] == ["bad", "good"]
    [facts] = plan.json()["understood"].values()
    assert facts["kind"] == "jsonl" and facts["columns"][1]["values"] == {"bad": 30, "good": 30}


@one_database
def test_a_data_set_of_a_hub_is_bounded_like_an_upload(client: TestClient, hub: Hub, settings: Settings) -> None:
    def said(files: Files) -> str:
        hub.files["acme/large"] = files
        return refusal(client, {"hub": "acme/large"})

    hub.sizes["train-0.csv"] = settings.max_upload_bytes
    assert "1,048,577 bytes, more than the 1,048,576" in said({"train-0.csv": b"", "train-1.csv": b"x"})
    assert hub.fetched == []
    assert "has more than 5,000 rows" in said({"train-a.csv": reviews(3000), "train-b.csv": reviews(3000)})
    bomb = b"text,label\n" + b"".join(b"%s%d,a\n" % (b"a" * 99_000, n) for n in range(12))
    small = parquet(bomb)
    assert len(small) < settings.max_upload_bytes / 10
    assert "more than 1,048,576 bytes once unpacked" in said({"train.parquet": small})
    assert client.get("/v1/datasets").json()["items"] == []


@one_database
def test_more_than_was_announced_is_not_read(client: TestClient, hub: Hub) -> None:
    hub.sizes["movies.csv"] = 100
    assert "where 100 were announced" in refusal(client, {"hub": "acme/movies"})
    hub.sizes["movies.csv"] = 10_000
    assert "where 10,000 were announced" in refusal(client, {"hub": "acme/movies"})
    assert client.get("/v1/datasets").json()["items"] == []


@pytest.fixture
def seconds_a_file(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What each file takes, by a clock that nothing else moves."""
    clock, answer, takes = [0.0], hub.answer, {"each": 0.0}

    def late(request: BaseHTTPRequestHandler, path: list[str]) -> None:
        clock[0] += takes["each"] if "resolve" in path else 0.0
        answer(request, path)

    monkeypatch.setattr(hub, "answer", late)
    monkeypatch.setattr(room, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return takes


@one_database
def test_a_hub_that_drips_is_cut_off(client: TestClient, hub: Hub, seconds_a_file: dict[str, float]) -> None:
    seconds_a_file["each"] = room.FETCH_S + 1
    hub.files["acme/movies"]["movies.csv"] = reviews(5000)
    assert "within 120 s" in refusal(client, {"hub": "acme/movies"})
    assert client.get("/v1/datasets").json()["items"] == []


@one_database
def test_all_that_a_request_names_has_one_deadline(
    client: TestClient, hub: Hub, seconds_a_file: dict[str, float]
) -> None:
    seconds_a_file["each"] = room.FETCH_S * 0.6
    named = {"hub": "acme/reviews"}
    body = job({"train": {"hub": "acme/movies"}, "dev": named, "test": named})
    answer = client.post("/v1/jobs", json=body)
    assert [one["pointer"] for one in answer.json()["errors"]] == ["/task/data/test/hub"]
    assert client.post("/v1/jobs", json=body).status_code == 202  # the rest is there


@one_database
def test_what_two_requests_fetch_at_once_is_one_data_set(
    client: TestClient, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_kept", lambda *_: None)  # the other is not done yet
    used = [client.post("/v1/jobs", json=job({"hub": "acme/movies"})).json()["spec"]["task"]["data"] for _ in range(2)]
    assert used[0] == used[1] and len(hub.fetched) == 2
    assert len(client.get("/v1/datasets").json()["items"]) == 1


@one_database
def test_redirects_lead_to_the_hub_itself_or_out_in_public(client: TestClient, hub: Hub) -> None:
    here = f"/datasets/acme/movies/resolve/{COMMITS[0]}/movies.csv"
    for inside in (
        "http://127.0.0.1:9/x",
        "https://127.0.0.1/x",
        "https://10.0.0.1/x",
        "https://localhost/",
        "file:///x",
    ):
        hub.redirects["movies.csv"] = inside
        assert "not public" in refusal(client, {"hub": "acme/movies"}), inside
    for fine in (here, hub.url + here):
        hub.redirects["movies.csv"] = fine
        assert client.post("/v1/jobs", json=job({"hub": "acme/movies"})).status_code == 202
    assert room._next(hub.url, "https://93.184.215.14/x", hub.url) == "https://93.184.215.14/x"
    with pytest.raises(SpecError):
        room._next(hub.url, "http://93.184.215.14/x", hub.url)


@one_database
def test_only_so_many_are_fetched_at_once(client: TestClient, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "AT_ONCE", threading.BoundedSemaphore(1))
    with room.AT_ONCE:
        busy = client.post("/v1/jobs", json=job({"hub": "acme/movies"}))
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "10")
    assert hub.asked == []
    assert client.post("/v1/jobs", json=job({"hub": "acme/movies"})).status_code == 202


@one_database
def test_a_data_set_of_yours_is_not_said_to_be_another(client: TestClient, hub: Hub, upload: Any) -> None:
    mine = {"dataset": upload(reviews(60)), "hub": "acme/reviews"}
    assert "did not come from there" in refusal(client, mine)


@one_database
@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        ({}, "/task/data"),
        ({"config": "en"}, "/task/data"),
        ({"dataset": "ds_" + "0" * 32, "split": "train"}, "/task/data"),
        *(({"hub": name}, "/task/data/hub") for name in ("../x", "a/../b", "/etc", "a/b/c", "a/b@", "http://h/x", "")),
        ({"hub": "a/b", "config": "x/y"}, "/task/data/config"),
        ({"hub": "a/b", "trust_remote_code": True}, "/task/data/trust_remote_code"),
    ],
)
def test_a_wrong_name_is_refused_by_field(client: TestClient, hub: Hub, data: dict[str, Any], pointer: str) -> None:
    answer = client.post("/v1/jobs", json=job(data))
    assert (answer.status_code, [one["pointer"] for one in answer.json()["errors"]]) == (422, [pointer])
    assert hub.asked == []


def test_what_one_tenant_fetched_is_not_anothers(client: TestClient, hub: Hub, database: Database) -> None:
    with database.begin() as session:
        other = keys.tenant(session, "other")
    data = client.post("/v1/jobs", json=job({"hub": "acme/movies"})).json()["spec"]["task"]["data"]
    with database.read() as session:
        assert room.datasets.named(session, other, f"acme/movies@{COMMITS[0]}/train") is None
        assert room.datasets.find(session, other, data["dataset"]) is None
