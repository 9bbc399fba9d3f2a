"""The client: what is sent again, what is not, how refusals read, and downloads that survive being cut."""

from __future__ import annotations

import json
import random
from pathlib import Path

import httpx
import pytest

from api import hub
from cli.client import TRIES, ApiError, download_all
from tests.cli.stub import FileServer, Stub, job, sha256

CONTENT = random.Random(0).randbytes(10_000)


def test_a_lost_answer_to_submit_is_asked_for_again_with_the_same_key() -> None:
    stub = Stub(httpx.ReadTimeout("lost"), httpx.Response(503), httpx.Response(202, json=job("queued")))
    assert stub.client().submit({"model": "m"}, "key-1")["id"] == "job_1"
    assert [request.headers["Idempotency-Key"] for request in stub.requests] == ["key-1"] * 3
    assert len(stub.pauses) == 2
    assert stub.requests[0].extensions["timeout"]["read"] > hub.FETCH_S + hub.ASK_S


NONE_THERE = httpx.Response(200, json={"items": []})


def test_an_upload_is_sent_again_only_if_the_server_was_never_reached(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text,label\n")
    stub = Stub(NONE_THERE, httpx.ConnectError("refused"), httpx.Response(201, json={"id": "ds_1"}))
    assert stub.client().upload(file)["id"] == "ds_1"
    assert b"text,label" in stub.requests[2].content
    for answer in (httpx.ReadTimeout("lost"), httpx.Response(500)):
        stub = Stub(NONE_THERE, answer)
        with pytest.raises(ApiError):
            stub.client().upload(file)
        assert len(stub.requests) == 2


def test_a_file_that_is_there_already_is_used_again(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text,label\n")
    known = {"id": "ds_1", "name": "a.csv", "upload_sha256": sha256(file.read_bytes())}
    other_name, other_content = {**known, "name": "b.csv"}, {**known, "upload_sha256": ""}
    for there, found in ((known, "ds_1"), (other_name, "ds_2"), (other_content, "ds_2")):
        stub = Stub(httpx.Response(200, json={"items": [there]}), httpx.Response(201, json={"id": "ds_2"}))
        assert stub.client().upload(file)["id"] == found
        assert len(stub.requests) == int(found[-1])
    writes_only = httpx.Response(403, json={"detail": "The key lacks the scope 'read'"})
    blind = Stub(writes_only, httpx.Response(201, json=known))
    assert blind.client().upload(file)["id"] == "ds_1"


def test_a_server_that_is_not_there_is_said_so() -> None:
    stub = Stub(httpx.ConnectError("refused"))
    with pytest.raises(ApiError, match=r"http://stub does not answer .* is `topwork serve` running"):
        stub.client().job("job_1")
    assert len(stub.requests) == TRIES


def test_a_refusal_is_one_line_a_fault() -> None:
    errors = [{"pointer": "/budget/params", "detail": "out of reach"}, {"parameter": "limit", "detail": "too large"}]
    stub = Stub(httpx.Response(422, json={"title": "x", "status": 422, "detail": "see 'errors'", "errors": errors}))
    with pytest.raises(ApiError, match=r"^/budget/params: out of reach\nlimit: too large$"):
        stub.client().submit({}, "k")
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
        Stub(answer).client().job("job_1")


def test_a_download_that_is_cut_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    server = FileServer({"model.safetensors": CONTENT}, cuts=[3000, 0, 2500])
    download_all(Stub(server).client(), "job_1", tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == CONTENT
    assert server.sent == len(CONTENT)  # nothing was sent twice
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_second_run_goes_on_with_what_the_first_left(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="does not answer"):
        download_all(Stub(FileServer({"a/b.bin": CONTENT}, cuts=[100] * TRIES)).client(), "job_1", tmp_path)
    assert not (tmp_path / "a" / "b.bin").exists()
    server = FileServer({"a/b.bin": CONTENT})
    download_all(Stub(server).client(), "job_1", tmp_path)
    assert server.sent == len(CONTENT) - 100 * TRIES
    download_all(Stub(server).client(), "job_1", tmp_path)
    assert server.sent == len(CONTENT) - 100 * TRIES  # all there: nothing more is sent


def test_what_was_left_of_another_file_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "x.bin.part").write_bytes(b"of another job")
    download_all(Stub(FileServer({"x.bin": CONTENT})).client(), "job_1", tmp_path)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_files_of_another_job_are_not_left_beside_the_new_ones(tmp_path: Path) -> None:
    manifest = json.dumps({"files": {"model.onnx": "0", "a.bin": "1", "gone.txt": "2"}})
    for name, text in (("model.onnx", "old"), ("a.bin", "old"), ("manifest.json", manifest), ("mine.txt", "mine")):
        (tmp_path / name).write_text(text)
    with pytest.raises(ApiError, match=r"holds files that are not of this job: model\.onnx; choose another folder"):
        download_all(Stub(FileServer({"a.bin": CONTENT})).client(), "job_1", tmp_path)
    (tmp_path / "model.onnx").unlink()
    download_all(Stub(FileServer({"a.bin": CONTENT})).client(), "job_1", tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and (tmp_path / "mine.txt").exists()


def test_a_complete_part_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.bin.part").write_bytes(CONTENT)
    download_all(Stub(FileServer({"x.bin": CONTENT})).client(), "job_1", tmp_path)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_a_redirect_to_the_storage_is_followed_without_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_KEY", "topwork_secret")
    files = FileServer({"x.bin": CONTENT})

    def server(request: httpx.Request) -> httpx.Response:
        if request.url.host == "stub" and not request.url.path.endswith("/files"):
            assert request.headers["authorization"] == "Bearer topwork_secret"
            return httpx.Response(307, headers={"Location": f"http://storage{request.url.path}?signed"})
        assert request.url.host == "stub" or "authorization" not in request.headers
        return files(request)

    download_all(Stub(server).client(), "job_1", tmp_path)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT and files.sent == len(CONTENT)


def test_damaged_content_never_gets_the_file_name(tmp_path: Path) -> None:
    def server(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/files"):
            return httpx.Response(200, json={"items": [{"path": "x", "sha256": sha256(b"good"), "href": "/x"}]})
        return httpx.Response(200, stream=httpx.ByteStream(b"evil"))

    with pytest.raises(ApiError, match="not what the server names"):
        download_all(Stub(server).client(), "job_1", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "a\\evil", ""])
def test_a_path_out_of_the_folder_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="outside the folder"):
        download_all(Stub(FileServer({path: b"x"})).client(), "job_1", tmp_path / "in")
    assert not (tmp_path / "evil").exists()


def test_a_manifest_that_disagrees_is_refused(tmp_path: Path) -> None:
    manifest = json.dumps({"files": {"x": "0" * 64}}).encode()
    with pytest.raises(ApiError, match=r"manifest\.json names another content for: x"):
        download_all(Stub(FileServer({"x": b"x", "manifest.json": manifest})).client(), "job_1", tmp_path)


def test_a_job_without_files_is_an_error(tmp_path: Path) -> None:
    stub = Stub(httpx.Response(200, json={"items": []}), httpx.Response(200, json=job("failed")))
    with pytest.raises(ApiError, match="has no files: it is failed"):
        download_all(stub.client(), "job_1", tmp_path)


def test_one_size_of_several_comes_as_if_it_were_the_only_one(tmp_path: Path) -> None:
    small = {"model.safetensors": CONTENT, "1_Pooling/config.json": b"{}"}
    small["manifest.json"] = json.dumps({"files": {name: sha256(content) for name, content in small.items()}}).encode()
    files = {f"params-0.1/{name}": content for name, content in small.items()} | {"params-0.2/manifest.json": b"{}"}
    files |= {"report.html": b"<p>", "manifest.json": b'{"files": {}}'}
    download_all(Stub(FileServer(files)).client(), "job_1", tmp_path, "params-0.1")
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == small
    with pytest.raises(ApiError, match=r"no size 'params-1': its sizes are params-0\.1, params-0\.2"):
        download_all(Stub(FileServer(files)).client(), "job_1", tmp_path, "params-1")
    with pytest.raises(ApiError, match="leave --size out"):
        download_all(Stub(FileServer(small)).client(), "job_1", tmp_path, "params-1")
