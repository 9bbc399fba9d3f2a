"""From a model's name to its folder: local, or from a hub that a server on this machine plays."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from core.ledger.settings import Settings
from core.spec.problems import SpecError
from tests.tiny import CONFIG
from worker.models import resolve

COMMIT = "c0ffee" * 6 + "c0ff"
REPOSITORIES = {
    "good/model": [
        "config.json",
        "model.safetensors",
        "vocab.txt",
        "pytorch_model.bin",
        "modeling_evil.py",
        "a/config.json",
    ],
    "huge/model": ["config.json", "model.safetensors", "huge.bin"],
    "pickle/only": ["config.json", "pytorch_model.bin"],
    "coded/model": ["config.json", "model.safetensors"],
}
SIZES = {("huge/model", "model.safetensors"): 21 * 2**30, ("good/model", "pytorch_model.bin"): 21 * 2**30}


class Hub(BaseHTTPRequestHandler):
    """The routes of the Hugging Face hub that fetching a snapshot takes."""

    asked: list[str] = []  # noqa: RUF012

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        parts = path.strip("/").split("/")
        repository = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if repository == "gated/model":
            return self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if repository not in REPOSITORIES:
            return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        files = REPOSITORIES[repository]
        if parts[0] == "api" and parts[4] == "tree":
            tree = [{"type": "file", "path": name, "size": len(name), "oid": self.oid(name)} for name in files]
            return self.answer(200, json.dumps(tree).encode())
        if parts[0] == "api":
            if parts[4:6] not in (["revision", "main"], ["revision", "v1"]):
                return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            siblings = [{"rfilename": name, "size": SIZES.get((repository, name), len(name))} for name in files]
            info = {"id": repository, "sha": COMMIT, "siblings": siblings}
            return self.answer(200, json.dumps(info).encode())
        name = "/".join(parts[4:])  # owner/name/resolve/<commit>/<file>
        body = json.dumps(CONFIG | ({"auto_map": {}} if repository == "coded/model" else {})).encode()
        self.answer(
            200,
            body if name == "config.json" else name.encode(),
            {"ETag": f'"{self.oid(name)}"', "X-Repo-Commit": COMMIT},
        )

    @staticmethod
    def oid(name: str) -> str:
        return hashlib.sha1(name.encode()).hexdigest()

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


PROGRAM = """
import json, sys
from core.ledger.settings import Settings
from core.spec.problems import SpecError
from worker.models import resolve
for name in sys.argv[1:]:
    try:
        found = resolve(name, Settings())
        files = sorted(p.relative_to(found.path).as_posix() for p in found.path.rglob("*") if p.is_file())
        print(json.dumps([found.name, found.revision, files]))
    except SpecError as error:
        print(json.dumps([error.field, error.message]))
"""


def ask(endpoint: str, data_dir: Path, *names: str) -> list[Any]:
    """Resolve in a new process: the hub's library reads its endpoint when it is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = kept | {"HF_ENDPOINT": endpoint, "TOPWORK_DATA_DIR": str(data_dir), "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert not any(name in done.stderr for name in (*names, endpoint))
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_hub_model_comes_at_its_commit_without_code_or_pickles(hub: str, tmp_path: Path) -> None:
    found = ask(hub, tmp_path, "good/model@v1", "good/model")
    assert found == [["good/model", COMMIT, ["config.json", "model.safetensors", "vocab.txt"]]] * 2
    fetched = {path.rpartition("/")[2] for path in Hub.asked if "/resolve/" in path}
    assert fetched == {"config.json", "model.safetensors", "vocab.txt"}
    offline = ask("http://127.0.0.1:1", tmp_path, "good/model@v1", f"good/model@{COMMIT}", "other/model")
    assert offline[:2] == found  # from the cache
    assert offline[2][0] == "/model" and "HF_ENDPOINT" in offline[2][1]


def test_a_hub_model_that_cannot_be_had_says_how_to_mend(hub: str, tmp_path: Path) -> None:
    names = ("missing/model", "good/model@v9", "gated/model", "pickle/only", "coded/model")
    answers = ask(hub, tmp_path, *names)
    assert {field for field, _ in answers} == {"/model"}
    for (_, message), expected in zip(
        answers, ("no public model", "no revision 'v9'", "gated", "has no model.safetensors", "'auto_map'"), strict=True
    ):
        assert expected in message


def test_a_hub_model_that_is_too_large_is_not_fetched(hub: str, tmp_path: Path) -> None:
    [[field, message]] = ask(hub, tmp_path, "huge/model")
    assert field == "/model" and "22,548,578," in message and "TOPWORK_MAX_MODEL_BYTES" in message
    assert not any("/resolve/" in path for path in Hub.asked)


def test_a_local_model_is_found_by_its_name(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    folder = settings.models_dir / "tiny"
    folder.mkdir(parents=True)
    with pytest.raises(SpecError, match=r"has no config\.json"):
        resolve("tiny", settings)
    (folder / "model.safetensors").touch()
    (folder / "config.json").write_text(json.dumps({**CONFIG, "hidden_size": 10**400}))
    with pytest.raises(SpecError, match=r"config\.json"):
        resolve("tiny", settings)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    found = resolve("tiny", settings)
    assert (found.path, found.name, found.revision) == (folder, "tiny", None)


@pytest.mark.parametrize("name", ["..", ".", "", "unknown", "tiny@main", "../blobs", "/etc", "a/../../b"])
def test_no_name_leads_out_of_the_models_folder(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = Settings(data_dir=tmp_path)
    settings.models_dir.mkdir()
    with pytest.raises(SpecError) as error:
        resolve(name, settings)
    assert error.value.field == "/model"
