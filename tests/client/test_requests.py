"""What is sent again, what is not, and how refusals read; with `await` and without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.planning import hub
from tests.client.stub import Stub, dataset, job, page, sha256
from topwork import ApiError, AsyncClient, Client, ServerAway, client
from topwork.requests import TRIES

JOB = "job_" + "1" * 32


def test_a_lost_answer_to_submit_is_asked_for_again_with_the_same_key() -> None:
    stub = Stub(httpx.ReadTimeout("lost"), httpx.Response(503), httpx.Response(202, json=job("queued")))
    assert stub.client().jobs.submit({"model": "m"}, key="key-1").id == JOB
    assert [request.headers["Idempotency-Key"] for request in stub.requests] == ["key-1"] * 3
    assert len(stub.pauses) == 2
    assert stub.requests[0].extensions["timeout"]["read"] > hub.FETCH_S + hub.ASK_S


def test_a_submit_has_a_key_of_its_own() -> None:
    stub = Stub(httpx.ReadTimeout("lost"), httpx.Response(202, json=job("queued")))
    client = stub.client()
    for _ in range(2):
        client.jobs.submit({"model": "m"})
    first, again, other = (request.headers["Idempotency-Key"] for request in stub.requests)
    assert first == again != other


def test_a_server_says_when_to_ask_again() -> None:
    stub = Stub(httpx.Response(429, headers={"Retry-After": "30"}), httpx.Response(200, json=job()))
    assert stub.client().jobs.get(JOB).status == "running"
    assert stub.pauses == [30.0]


def test_an_upload_is_sent_again_only_if_the_server_did_nothing_with_it(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text,label\n")
    for answer in (httpx.ConnectError("refused"), httpx.Response(503)):
        stub = Stub(page(), answer, httpx.Response(201, json=dataset()))
        assert stub.client().data.upload(file).id == "ds_1"
        assert b"text,label" in stub.requests[2].content
    for answer in (httpx.ReadTimeout("lost"), httpx.Response(500)):
        stub = Stub(page(), answer)
        with pytest.raises(ApiError):
            stub.client().data.upload(file)
        assert len(stub.requests) == 2


def test_a_file_that_is_there_already_is_used_again(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text,label\n")
    known = dataset(upload_sha256=sha256(file.read_bytes()))
    for there, requests in (
        (known, 1),  # of an earlier server
        (read_as(known), 1),
        (read_as(known, delimiter=";"), 2),
        ({**known, "name": "b.csv"}, 2),
        (dataset(), 2),
    ):
        stub = Stub(page(there), httpx.Response(201, json=dataset(id="ds_2")))
        assert stub.client().data.upload(file).id == f"ds_{requests}"
        assert len(stub.requests) == requests
    writes_only = httpx.Response(403, json={"detail": "The key lacks the scope 'read'"})
    blind = Stub(writes_only, httpx.Response(201, json=known))
    assert blind.client().data.upload(file).id == "ds_1"
    for there, requests in ((known, 2), (read_as(known, delimiter=";"), 2), (read_as(known, header=False), 1)):
        told = Stub(page(there), httpx.Response(201, json=dataset(id="ds_2")))
        assert told.client().data.upload(file, header=False).id == f"ds_{requests}"
        assert all(b'name="header"' in sent.content and b"false" in sent.content for sent in told.requests[1:])


def read_as(known: dict[str, Any], **asked: Any) -> dict[str, Any]:
    """A data set whose user has said so of the file."""
    facts = {"kind": "csv", "rows": 9, "columns": [], "skipped": [], "notes": []}
    return {**known, "understood": {**facts, "asked": asked}}


def test_no_proxy_stands_before_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    opened = client._opened(httpx.Client, None, None, None)
    ours, theirs = (
        opened._transport_for_url(httpx.URL(url)) for url in ("http://127.0.0.1:8000", "http://example.org")
    )
    assert ours is opened._transport is not theirs


def test_a_server_that_is_not_there_is_said_so() -> None:
    stub = Stub(httpx.ConnectError("refused"))
    with pytest.raises(ServerAway, match=r"http://stub does not answer .* is `topwork serve` running"):
        stub.client().jobs.get(JOB)
    assert len(stub.requests) == TRIES


def test_a_refusal_is_one_line_a_fault() -> None:
    errors = [{"pointer": "/budget/params", "detail": "out of reach"}, {"parameter": "limit", "detail": "too large"}]
    stub = Stub(httpx.Response(422, json={"title": "x", "status": 422, "detail": "see 'errors'", "errors": errors}))
    with pytest.raises(ApiError, match=r"^/budget/params: out of reach\nlimit: too large$"):
        stub.client().jobs.submit({})
    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (httpx.Response(404, json={"detail": "There is no such job."}), "There is no such job."),
        (httpx.Response(403, text="<html>"), "403 Forbidden"),
        (httpx.Response(200, text="<html>"), "is it a Topwork server"),
        (httpx.Response(200, json={}), "is it a Topwork server"),
        (httpx.Response(404, json={"errors": ["bad"]}), "404 Not Found"),
        (httpx.Response(404, json={"errors": 3, "detail": "no"}), "no"),
        (httpx.Response(200, json=[]), "is it a Topwork server"),
    ],
)
def test_other_answers_are_explained(answer: httpx.Response, message: str) -> None:
    with pytest.raises(ApiError, match=message):
        Stub(answer).client().jobs.get(JOB)


@pytest.mark.parametrize("server", ["nonsense", "http://host:port", "ftp://host"])
def test_an_address_that_is_none(server: str) -> None:
    with pytest.raises(Exception, match="address"):
        Client(server, pause=lambda _: None).jobs.get(JOB)


@pytest.mark.parametrize("key", ["topwork_a\rb", "topwork_é"])
def test_a_key_that_cannot_be_one_is_not_shown(key: str) -> None:
    with pytest.raises(Exception, match="TOPWORK_KEY: holds a character") as error:
        Client(key=key)
    assert key not in str(error.value)


def test_lists_go_on_over_pages() -> None:
    stub = Stub(page(job(), following="c1"), page(job(), job()))
    assert len([*stub.client().jobs.list(status="queued", labels={"team": "search"})]) == 3
    first, second = (request.url.params for request in stub.requests)
    assert (first["status"], first["label"], "cursor" in first) == ("queued", "team:search", False)
    assert (second["cursor"], second["label"]) == ("c1", "team:search")


def test_the_same_calls_with_await(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n")
    stub = Stub(
        page(),
        httpx.Response(201, json=dataset()),
        httpx.ReadTimeout("lost"),
        httpx.Response(202, json=job("queued")),
        httpx.Response(200, json=job()),
        httpx.Response(200, json=job("succeeded")),
        page(job(), following="c1"),
        page(job()),
    )

    async def use() -> tuple[Any, ...]:
        async with stub.async_client() as client:
            asked = await client.jobs.submit(model="m", data=tmp_path / "a.csv", budget="10%")
            ended = await client.jobs.wait(asked)
            return asked.status, ended.status, [one.id async for one in client.jobs.list()]

    assert asyncio.run(use()) == ("queued", "succeeded", [JOB, JOB])


def test_both_clients_offer_the_same() -> None:
    """Whatever one has, the other has: they are made of the same calls."""

    def offered(client: Client | AsyncClient) -> set[str]:
        groups: dict[str, Any] = {"jobs": client.jobs, "data": client.data, "models": client.models}
        return {f"{group}.{name}" for group, calls in groups.items() for name in dir(calls) if name[0] != "_"}

    stub = Stub(httpx.Response(500))
    assert offered(stub.client()) == offered(stub.async_client()) >= {"jobs.submit", "data.list", "models.get"}


NAMED: list[tuple[str, Callable[[str], dict[str, Any]]]] = [
    ("job_0192f0c2", lambda _: job(id="job_0192f0c2" + "0" * 24)),
    ("aaaa1234", lambda _: job(id="job_" + "0" * 24 + "aaaa1234")),
    ("nightly", lambda _: job(spec={"title": "nightly"})),
    ("m, text classification, 10% of encoder parameters", lambda _: job()),
]


@pytest.mark.parametrize(("name", "made"), NAMED)
def test_a_job_by_its_name(name: str, made: Callable[[str], dict[str, Any]]) -> None:
    other = job(id="job_" + "9" * 32, spec={"model": "other"})
    assert Stub(page(other, made(name))).client().jobs.get(name).id == made(name)["id"]


def test_names_that_are_not_enough() -> None:
    both = page(job(id="job_12340" + "0" * 27), job(id="job_12341" + "0" * 27))
    with pytest.raises(Exception, match=r"2 jobs are meant by '1234'; give the id of one:\n  job_12340"):
        Stub(both).client().jobs.get("1234")
    with pytest.raises(Exception, match="there is no job 'nigtly'; did you mean 'nightly'"):
        Stub(page(job(spec={"title": "nightly"}))).client().jobs.get("nigtly")
    with pytest.raises(Exception, match=r"there is no data set 'b\.csv'; did you mean 'a\.csv'"):
        Stub(page(dataset())).client().data.get("b.csv")
