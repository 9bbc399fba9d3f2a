"""Downloads that survive being cut, keep to their folder, and have no files of others beside them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import httpx
import pytest

from tests.client.stub import FileServer, Stub, job, output, sha256
from topwork import TopworkError
from topwork.requests import TRIES

CONTENT = random.Random(0).randbytes(10_000)
JOB = "job_" + "1" * 32


def test_a_download_that_is_cut_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    server = FileServer({"model.safetensors": CONTENT}, cuts=[3000, 0, 2500])
    Stub(server).client().jobs.download(JOB, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == CONTENT
    assert server.sent == len(CONTENT)  # nothing was sent twice
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_second_run_goes_on_with_what_the_first_left(tmp_path: Path) -> None:
    with pytest.raises(TopworkError, match="does not answer"):
        Stub(FileServer({"a/b.bin": CONTENT}, cuts=[100] * TRIES)).client().jobs.download(JOB, tmp_path)
    assert not (tmp_path / "a" / "b.bin").exists()
    server = FileServer({"a/b.bin": CONTENT})
    Stub(server).client().jobs.download(JOB, tmp_path)
    assert server.sent == len(CONTENT) - 100 * TRIES
    Stub(server).client().jobs.download(JOB, tmp_path)
    assert server.sent == len(CONTENT) - 100 * TRIES  # all there: nothing more is sent


def test_what_was_left_of_another_file_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "x.bin.part").write_bytes(b"of another job")
    Stub(FileServer({"x.bin": CONTENT})).client().jobs.download(JOB, tmp_path)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


@pytest.mark.field(
    "4. A newcomer's hour", "a download into a folder that holds a README", "refused: nothing is written over"
)
def test_a_folder_with_other_files_in_it_is_left_alone(tmp_path: Path) -> None:
    """Neither is a README of the same name written over, nor does an old file stay beside new weights."""
    server = FileServer({"a.bin": CONTENT, "README.md": b"a card"})
    for name, text in (("model.onnx", "old"), ("README.md", "mine")):
        (tmp_path / name).write_text(text)
        with pytest.raises(TopworkError, match=rf"holds files that are not of this job: {name}; choose another folder"):
            Stub(server).client().jobs.download(JOB, tmp_path)
        (tmp_path / name).unlink()
    Stub(server).client().jobs.download(JOB, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_complete_part_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.bin.part").write_bytes(CONTENT)
    Stub(FileServer({"x.bin": CONTENT})).client().jobs.download(JOB, tmp_path)
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

    Stub(server).client().jobs.download(JOB, tmp_path)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT and files.sent == len(CONTENT)


def test_damaged_content_never_gets_the_file_name(tmp_path: Path) -> None:
    def server(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/files"):
            return httpx.Response(200, json={"items": [output("x", sha256(b"good"), "/x")]})
        return httpx.Response(200, stream=httpx.ByteStream(b"evil"))

    with pytest.raises(TopworkError, match="not what the server names"):
        Stub(server).client().jobs.download(JOB, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "a\\evil", ""])
def test_a_path_out_of_the_folder_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(TopworkError, match="outside the folder"):
        Stub(FileServer({path: b"x"})).client().jobs.download(JOB, tmp_path / "in")
    assert not (tmp_path / "evil").exists()


def test_a_manifest_that_disagrees_is_refused(tmp_path: Path) -> None:
    manifest = json.dumps({"files": {"x": "0" * 64}}).encode()
    with pytest.raises(TopworkError, match=r"manifest\.json names another content for: x"):
        Stub(FileServer({"x": b"x", "manifest.json": manifest})).client().jobs.download(JOB, tmp_path)


def test_a_job_without_files_is_an_error(tmp_path: Path) -> None:
    stub = Stub(httpx.Response(200, json={"items": []}), httpx.Response(200, json=job("failed")))
    with pytest.raises(TopworkError, match="has no files: it is failed"):
        stub.client().jobs.download(JOB, tmp_path)


def test_one_size_of_several_comes_as_if_it_were_the_only_one(tmp_path: Path) -> None:
    small = {"model.safetensors": CONTENT, "1_Pooling/config.json": b"{}"}
    small["manifest.json"] = json.dumps({"files": {name: sha256(content) for name, content in small.items()}}).encode()
    files = {f"params-0.1/{name}": content for name, content in small.items()} | {"params-0.2/manifest.json": b"{}"}
    files |= {"report.html": b"<p>", "manifest.json": b'{"files": {}}'}
    Stub(FileServer(files)).client().jobs.download(JOB, tmp_path, size="params-0.1")
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == small
    with pytest.raises(TopworkError, match=r"no size 'params-1': its sizes are params-0\.1, params-0\.2"):
        Stub(FileServer(files)).client().jobs.download(JOB, tmp_path, size="params-1")
    with pytest.raises(TopworkError, match="leave the size out"):
        Stub(FileServer(small)).client().jobs.download(JOB, tmp_path, size="params-1")
