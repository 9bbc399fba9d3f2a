"""Results told to trackers, and pushed to a hub, from the user's side; no key of theirs is sent to our server."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.client.stub import FileServer, Stub, job
from tests.reports import family, report
from topwork import TopworkError
from topwork.models import Job
from topwork.tracking import measured

JOB = "job_" + "1" * 32
CURVES = {"series": [{"stage": "recover params-0.1", "name": "dev.accuracy", "points": [[10, 0.7], [20, 0.8]]}]}


def server() -> Stub:
    """A job that has succeeded, with curves."""

    def answer(request: httpx.Request) -> httpx.Response:
        found = CURVES if request.url.path.endswith("/metrics") else job("succeeded", metrics=report())
        return httpx.Response(200, json=found)

    return Stub(answer)


class Recorder:
    """A module that notes how it is called; a run that it starts does so, too."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            return self

        return call

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def of(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Arguments of each call of that name."""
        return [(args, kwargs) for found, args, kwargs in self.calls if found == name]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_run_of_wandb_or_trackio(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = Recorder()
    monkeypatch.setitem(sys.modules, name, module)
    server().client().jobs.track(JOB, name, project="mine")  # type: ignore[arg-type]
    ((_, begun),) = module.of("init")
    assert (begun["project"], begun["config"]["budget.params"]) == ("mine", 0.1)
    logged = [args[0] for args, _ in module.of("log")]
    assert logged[:2] == [
        {"recover.params-0.1.dev.accuracy": value, "recover.params-0.1.dev.accuracy.step": step}
        for step, value in ((10, 0.7), (20, 0.8))
    ]
    assert logged[2]["pruned.accuracy"] == 0.819 and logged[2]["pruned.ms_batch_1"] == 8.7
    assert len(module.of("finish")) == 1


def test_a_run_of_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Recorder()
    monkeypatch.setitem(sys.modules, "mlflow", module)
    server().client().jobs.track(JOB, "mlflow")
    assert module.of("set_experiment") == [(("topwork",), {})]
    assert module.of("log_metric")[1] == (("recover.params-0.1.dev.accuracy", 0.8), {"step": 20})
    ((numbers,), _) = module.of("log_metrics")[0]
    assert numbers["dense.accuracy"] == 0.876


def test_each_size_of_several_is_told() -> None:
    found = dict(measured(Job.model_validate(job("succeeded", metrics=family()))))
    assert found["params-0.4.accuracy"] == 0.87 and "latency_ms-1.accuracy" not in found


def test_what_is_not_installed_or_not_known_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mlflow", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    client = server().client()
    with pytest.raises(TopworkError, match="mlflow is not installed here: pip install mlflow"):
        client.jobs.track(JOB, "mlflow")
    with pytest.raises(TopworkError, match="give one of mlflow, wandb, trackio"):
        client.jobs.track(JOB, "excel")  # type: ignore[arg-type]
    with pytest.raises(TopworkError, match="pip install huggingface_hub"):
        client.jobs.push(JOB, "me/small")


class Hub(BaseHTTPRequestHandler):
    """What huggingface_hub asks for a push: a repository, how files go, a commit."""

    seen: list[tuple[str, str, bytes]]
    private: bool

    def log_message(self, *_args: object) -> None:
        """Not a word."""

    def do_GET(self) -> None:
        """Of the repository, whether it is private; no file is there yet."""
        self._take({"id": "me/small", "private": self.private} if self.path.endswith("/models/me/small") else {})

    def do_POST(self) -> None:
        """Answer as the hub does."""
        body = self._body()
        path = self.path.partition("?")[0]
        if path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            self._take({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]}, body)
        elif "/commit/" in path:
            self._take({"commitUrl": self._url("me/small/commit/0"), "commitOid": "0" * 40, "success": True}, body)
        else:
            self._take({"url": self._url("me/small"), "name": "me/small", "id": "1"}, body)

    def _url(self, path: str) -> str:
        return f"http://{self.headers['Host']}/{path}"

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _take(self, answer: Any, body: bytes = b"") -> None:
        self.seen.append((f"{self.command} {self.path}", self.headers.get("authorization", ""), body))
        content = httpx.Response(200, json=answer).content
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A hub of our own on loopback: its address, what it was asked, and what answers there."""
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    seen: list[tuple[str, str, bytes]] = []
    answers = type("Seeing", (Hub,), {"seen": seen, "private": True})
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield SimpleNamespace(address=f"http://127.0.0.1:{server.server_port}", seen=seen, answers=answers)
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_result_is_pushed_to_a_hub_with_a_token_that_we_never_see(hub: SimpleNamespace) -> None:
    stub = Stub(FileServer({"README.md": b"# a card", "config.json": b"{}"}))
    stub.client().jobs.push(JOB, "me/small", endpoint=hub.address, token="hf_secret")
    commit = next(body for path, _, body in hub.seen if "/commit/" in path)
    assert b"README.md" in commit and b"config.json" in commit and b"A model pruned by Topwork" in commit
    assert b"private" in next(body for path, _, body in hub.seen if path.endswith("/repos/create"))
    assert {key for path, key, _ in hub.seen if "/commit/" in path} == {"Bearer hf_secret"}
    for request in stub.requests:
        assert "hf_secret" not in f"{request.url} {request.headers} {request.content!r}"


def test_nothing_is_pushed_to_a_public_model_unless_told_so(hub: SimpleNamespace) -> None:
    hub.answers.private = False
    client = Stub(FileServer({"test.jsonl": b"{}"})).client()
    with pytest.raises(TopworkError, match=r"me/small is there already, and public: give private=False"):
        client.jobs.push(JOB, "me/small", endpoint=hub.address, token="hf_secret")
    assert not any("/commit/" in path for path, _, _ in hub.seen)
    client.jobs.push(JOB, "me/small", endpoint=hub.address, token="hf_secret", private=False)
    assert any("/commit/" in path for path, _, _ in hub.seen)
